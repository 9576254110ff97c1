package main

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// make builds an image of two platforms whose programs are a few bytes, and returns the tar file.
func makeImage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"ca.crt": "authorities", "amd64": "program for amd64", "arm64": "program for arm64"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "image.tar")
	err := run(options{
		version: "1.2.3", ca: filepath.Join(dir, "ca.crt"), out: out, created: time.Unix(1_760_000_000, 0).UTC(),
		binaries: []string{"linux/amd64=" + filepath.Join(dir, "amd64"), "linux/arm64=" + filepath.Join(dir, "arm64")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unpack extracts a tar file into a folder of its own.
func unpack(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for r := tar.NewReader(file); ; {
		header, err := r.Next()
		if err == io.EOF {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, header.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// imagesOf opens the images of a layout, by their platforms.
func imagesOf(t *testing.T, dir string) map[string]v1.Image {
	t.Helper()
	outer, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("got %v, %v; want one image", manifest, err)
	}
	index, err := outer.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Errorf("the image is not valid: %v", err)
	}
	if manifest, err = index.IndexManifest(); err != nil {
		t.Fatal(err)
	}
	all := map[string]v1.Image{}
	for _, m := range manifest.Manifests {
		if all[m.Platform.String()], err = index.Image(m.Digest); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestImage_holds_the_program_authorities_and_a_user_and_nothing_else(t *testing.T) {
	images := imagesOf(t, unpack(t, makeImage(t)))
	if got := slices.Sorted(maps.Keys(images)); !slices.Equal(got, []string{"linux/amd64", "linux/arm64"}) {
		t.Fatalf("got platforms %v", got)
	}
	for platform, image := range images {
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if got := config.Platform().String(); got != platform {
			t.Errorf("%s: its configuration says %s", platform, got)
		}
		if config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/ingestd"}) || config.Config.Healthcheck == nil {
			t.Errorf("%s: got user %q, entrypoint %q, health check %v", platform, config.Config.User, config.Config.Entrypoint, config.Config.Healthcheck)
		}
		layers, err := image.Layers()
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]*tar.Header{}
		for _, layer := range layers {
			text, err := layer.Uncompressed()
			if err != nil {
				t.Fatal(err)
			}
			for r := tar.NewReader(text); ; {
				header, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				files[header.Name] = header
			}
		}
		want := []string{
			"etc/", "etc/group", "etc/ingestd/", "etc/passwd", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt", "ingestd",
			"var/", "var/lib/", "var/lib/ingestd/",
		}
		if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
			t.Errorf("%s: got files %q, want %q", platform, got, want)
		}
		for name, header := range files {
			if header.Mode&0o022 != 0 || header.Mode&0o7000 != 0 {
				t.Errorf("%s: %s has mode %o: others could write it", platform, name, header.Mode)
			}
			if owned := header.Uid == user; owned != (name == "var/lib/ingestd/") {
				t.Errorf("%s: %s belongs to user %d", platform, name, header.Uid)
			}
		}
		if files["ingestd"].Mode != 0o755 || files["ingestd"].Size != int64(len("program for amd64")) {
			t.Errorf("%s: the program has mode %o and %d bytes", platform, files["ingestd"].Mode, files["ingestd"].Size)
		}
	}
}

// The image that was really built, named by IMAGE, starts with nothing but what is in it, as its own user.
func TestImage_that_was_built_runs(t *testing.T) {
	built := os.Getenv("IMAGE")
	if built == "" || os.Getuid() != 0 {
		t.Skip("IMAGE names no image, or this is not root, who alone may change the root directory")
	}
	image := imagesOf(t, unpack(t, built))["linux/"+runtime.GOARCH]
	if image == nil {
		t.Skip("the image has no program for this machine")
	}
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		text, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		command := exec.CommandContext(t.Context(), "tar", "--extract", "--numeric-owner", "--same-owner", "--same-permissions", "--directory", root)
		command.Stdin = text
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	command := exec.CommandContext(t.Context(), "chroot", "--userspec=65532:65532", root, "/ingestd", "version")
	if out, err := command.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("ingestd")) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestImage_is_the_same_to_the_byte_when_it_is_built_again(t *testing.T) {
	var built [2][]byte
	for i := range built {
		content, err := os.ReadFile(makeImage(t))
		if err != nil {
			t.Fatal(err)
		}
		built[i] = content
	}
	if !bytes.Equal(built[0], built[1]) {
		t.Error("two builds of the same input differ")
	}
}
