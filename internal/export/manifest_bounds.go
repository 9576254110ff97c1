package export

import (
	"encoding/json"
	"errors"
	"io"
)

const (
	// maxManifestValueBytes bounds one value of a manifest: a member, or a file with all that is said of it. The decoder keeps
	// a value whole in memory, doubled while it grows, so that the bound of the whole body alone would let one endless string
	// take several times that.
	maxManifestValueBytes = 2 << 20
	// maxManifestFiles bounds the files of a manifest, over all its pages: each takes several times the memory that its text
	// took on the wire.
	maxManifestFiles = 250_000
)

var (
	errValueTooLarge = errors.New("a value in it is larger than the limit")
	errTooManyFiles  = errors.New("it lists more files than the limit")
)

// valueBounds is the source of a JSON decoder that ends with errValueTooLarge where the decoder would have to keep more than
// maxManifestValueBytes of one value.
type valueBounds struct {
	from    io.Reader
	decoder *json.Decoder
	read    int64
}

// newBoundedDecoder returns a decoder of r that keeps no value larger than maxManifestValueBytes.
func newBoundedDecoder(r io.Reader) *json.Decoder {
	bounds := &valueBounds{from: r}
	bounds.decoder = json.NewDecoder(bounds)
	return bounds.decoder
}

// Read implements io.Reader. The decoder reads on from within Token, Decode and More alone, while its offset still stands
// behind the value that it read last.
func (b *valueBounds) Read(p []byte) (int, error) {
	left := b.decoder.InputOffset() + maxManifestValueBytes - b.read
	if left <= 0 {
		return 0, errValueTooLarge
	}
	n, err := b.from.Read(p[:min(int64(len(p)), left)])
	b.read += int64(n)
	return n, err //nolint:wrapcheck // io.EOF must stay io.EOF
}
