package vmcore

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// A name is found wherever it begins at a multiple of 4 bytes, and nowhere
// else: at each place around the blocks in which most memory is looked at.
func TestEachName(t *testing.T) {
	for _, tt := range []struct{ name, text string }{
		{"two words and zeros", "VMCSINFO\x00\x00\x00\x00"},
		{"words that share no bits", "\x00\x00\x00\x00\xff\xff\xff\xff"},
		{"the same word twice", "AAAAAAAA"},
		{"one word", "GNU\x00"},
		{"two words", "CORE\x00\x00\x00\x00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := []byte(tt.text)
			for size := range 200 {
				for off := 0; off+len(name) <= size; off++ {
					for addr := range uint64(9) {
						b := bytes.Repeat([]byte{0x5a}, size)
						copy(b[off:], name)
						var found []int
						eachName(addr, b, name, func(off int) { found = append(found, off) })
						var want []int
						if (addr+uint64(off))%4 == 0 {
							want = []int{off}
						}
						if !slices.Equal(found, want) {
							t.Fatalf("%d bytes at %d, name at %d: found at %d", size, addr, off, found)
						}
					}
				}
			}
		})
	}
}

// In bytes of which few differ it finds what a look at each place finds.
func TestEachNameProperty(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		b := make([]byte, random.IntN(400))
		for i := range b {
			b[i] = "ab"[random.IntN(2)]
		}
		name, addr := []byte("abbbabab")[:4+4*random.IntN(2)], random.Uint64N(16)
		var found, want []int
		eachName(addr, b, name, func(off int) { found = append(found, off) })
		for off := range b {
			if (addr+uint64(off))%4 == 0 && bytes.HasPrefix(b[off:], name) {
				want = append(want, off)
			}
		}
		if !slices.Equal(found, want) {
			t.Fatalf("%q in %q at %d: found at %d, want %d", name, b, addr, found, want)
		}
	}
}

func BenchmarkEachName(b *testing.B) {
	random := make([]byte, 256<<10)
	rand.NewChaCha8([32]byte{}).Read(random)
	name := []byte("VMCSINFO\x00\x00\x00\x00")
	for _, data := range []struct {
		name string
		b    []byte
	}{{"random", random}, {"zeros", make([]byte, len(random))}} {
		b.Run(data.name, func(b *testing.B) {
			b.SetBytes(int64(len(data.b)))
			for b.Loop() {
				eachName(0, data.b, name, func(int) {})
			}
		})
	}
}
