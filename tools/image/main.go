// Command image builds the container image without a container engine: an OCI image layout in a tar file, for all platforms that a
// binary is given for. The same input gives the same bytes. It has a module of its own, so that its dependencies are not the product's.
//
//	image -version V -created UNIX_SECONDS -ca FILE -out FILE linux/amd64=BINARY linux/arm64=BINARY
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user is who ingestd runs as, without a name of its own outside of the image.
const user = 65532

type options struct {
	version, ca, out string
	created          time.Time
	binaries         []string // PLATFORM=FILE
}

func main() {
	var o options
	var created int64
	flag.StringVar(&o.version, "version", "dev", "the version, for the labels")
	flag.Int64Var(&created, "created", 0, "when the image was made, in Unix seconds: the commit's time")
	flag.StringVar(&o.ca, "ca", "/etc/ssl/certs/ca-certificates.crt", "the bundle of certificate authorities")
	flag.StringVar(&o.out, "out", "", "the tar file to write")
	flag.Parse()
	o.created, o.binaries = time.Unix(created, 0).UTC(), flag.Args()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if o.out == "" || len(o.binaries) == 0 {
		return errors.New("expected -out FILE and at least one PLATFORM=BINARY")
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, pair := range o.binaries {
		name, binary, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("%q: expected PLATFORM=BINARY, for example linux/amd64=build/ingestd", pair)
		}
		platform, err := v1.ParsePlatform(name)
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		image, err := build(o, *platform, binary)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	return write(index, o)
}

// build makes the image of one platform: what every image has beside the program in one layer, which seldom changes, and the program.
func build(o options, platform v1.Platform, binary string) (v1.Image, error) {
	authorities, err := os.ReadFile(o.ca)
	if err != nil {
		return nil, fmt.Errorf("read the certificate authorities: %w", err)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("read the program: %w", err)
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	for _, files := range [][]file{
		{
			{name: "etc/", mode: 0o755},
			{name: "etc/passwd", mode: 0o644, content: fmt.Appendf(nil, "ingestd:x:%d:%d::/var/lib/ingestd:/sbin/nologin\n", user, user)},
			{name: "etc/group", mode: 0o644, content: fmt.Appendf(nil, "ingestd:x:%d:\n", user)},
			{name: "etc/ingestd/", mode: 0o755},
			{name: "etc/ssl/", mode: 0o755},
			{name: "etc/ssl/certs/", mode: 0o755},
			{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: authorities},
			{name: "var/", mode: 0o755},
			{name: "var/lib/", mode: 0o755},
			{name: "var/lib/ingestd/", mode: 0o700, owner: user},
		},
		{{name: "ingestd", mode: 0o755, content: program}},
	} {
		layer, err := layerOf(files, o.created)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.Append(image, mutate.Addendum{Layer: layer, MediaType: types.OCILayer}); err != nil {
			return nil, fmt.Errorf("append a layer: %w", err)
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the image's configuration: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = platform.OS, platform.Architecture, platform.Variant
	config.Created = v1.Time{Time: o.created}
	for i := range config.History {
		config.History[i].Created = config.Created
	}
	config.Config = v1.Config{
		User:       fmt.Sprintf("%d:%d", user, user),
		Entrypoint: []string{"/ingestd"},
		Cmd:        []string{"serve"},
		Env:        []string{"PATH=/", "INGESTD_CONFIG=/etc/ingestd/ingestd.yaml"},
		WorkingDir: "/var/lib/ingestd",
		StopSignal: "SIGTERM",
		Healthcheck: &v1.HealthConfig{
			Test: []string{"CMD", "/ingestd", "healthcheck"}, Interval: 15 * time.Second, Timeout: 5 * time.Second,
			StartPeriod: 10 * time.Second, Retries: 3,
		},
		Labels: map[string]string{
			"org.opencontainers.image.title":       "ingestd",
			"org.opencontainers.image.description": "Bulk ingest of FHIR exports of many payers into Postgres",
			"org.opencontainers.image.version":     o.version,
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.created":     o.created.Format(time.RFC3339),
		},
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, fmt.Errorf("set the image's configuration: %w", err)
	}
	return image, nil
}

// file is an entry of a layer; a name that ends in a slash is a folder.
type file struct {
	name    string
	mode    int64
	owner   int
	content []byte
}

func layerOf(files []file, at time.Time) (v1.Layer, error) {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, f := range files {
		header := &tar.Header{
			Name: f.name, Mode: f.mode, Uid: f.owner, Gid: f.owner, ModTime: at, Size: int64(len(f.content)), Typeflag: tar.TypeReg,
			Format: tar.FormatUSTAR,
		}
		if strings.HasSuffix(f.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("end the layer: %w", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("make a layer: %w", err)
	}
	return layer, nil
}

// write stores an image index as an OCI image layout (OCI Image Specification 1.1, Image Layout), packed as a tar file.
func write(index v1.ImageIndex, o options) (err error) {
	dir, err := os.MkdirTemp("", "ingestd-image-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	place, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	name := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": o.version, "io.containerd.image.name": "ingestd:" + o.version})
	if err := place.AppendIndex(index, name); err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	out, err := os.Create(o.out)
	if err != nil {
		return fmt.Errorf("create the tar file: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := tar.NewWriter(out)
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error { // in the order of the names
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		header := &tar.Header{Name: relative, Mode: 0o644, ModTime: o.created, Size: int64(len(content)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err != nil {
		return fmt.Errorf("pack the layout: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("pack the layout: %w", err)
	}
	return nil
}
