package fhir

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// plainEndByByte is what plainEnd does, a byte at a time.
func plainEndByByte(data []byte, i int) int {
	for i < len(data) && data[i] >= 0x20 && data[i] < 0x80 && data[i] != '"' && data[i] != '\\' {
		i++
	}
	return i
}

func TestPlainEnd_finds_every_byte_at_every_place(t *testing.T) {
	t.Parallel()
	for length := range 40 {
		for place := range length {
			for b := range 256 {
				data := bytes.Repeat([]byte{'a'}, length)
				data[place] = byte(b)
				if got, want := plainEnd(data, 0), plainEndByByte(data, 0); got != want {
					t.Fatalf("byte %#x at %d of %d: got %d, want %d", b, place, length, got, want)
				}
			}
		}
	}
}

func TestPlainEnd_agrees_with_a_look_at_each_byte(t *testing.T) {
	t.Parallel()
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	alphabet := []byte("az !#[]~\x7f\x1f\x20\x21\x22\x23\x5b\x5c\x5d\x00\x01\x80\x81\xa1\xa2\xdc\xff")
	for range 200_000 {
		data := make([]byte, random.IntN(48))
		for i := range data {
			data[i] = 'a' + byte(random.IntN(26))
			if random.IntN(6) == 0 {
				data[i] = alphabet[random.IntN(len(alphabet))]
			}
		}
		from := random.IntN(len(data) + 1)
		if got, want := plainEnd(data, from), plainEndByByte(data, from); got != want {
			t.Fatalf("seed %d, %q from %d: got %d, want %d", seed, data, from, got, want)
		}
	}
}
