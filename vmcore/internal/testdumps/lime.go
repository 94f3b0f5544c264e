package testdumps

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/snappy"

	"vmcsnote/vmcore/internal/lime"
)

// LiME writes ranges of memory as LiME does.
func LiME(ranges ...Range) []byte {
	var b []byte
	for _, r := range ranges {
		b = append(imageHeader(b, lime.Magic, 1, r), r.Bytes...)
	}
	return b
}

// AVML writes ranges of memory as AVML does.
func AVML(t testing.TB, ranges ...Range) []byte {
	var b []byte
	for _, r := range ranges {
		var packed bytes.Buffer
		w := snappy.NewBufferedWriter(&packed)
		if _, err := w.Write(r.Bytes); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		b = append(imageHeader(b, lime.AVMLMagic, 2, r), packed.Bytes()...)
		b = binary.LittleEndian.AppendUint64(b, uint64(packed.Len()))
	}
	return b
}

// A Range of memory, and what is there.
type Range struct {
	Addr  uint64
	Bytes []byte
}

func imageHeader(b []byte, magic string, version uint32, r Range) []byte {
	b = binary.LittleEndian.AppendUint32(append(b, magic...), version)
	b = binary.LittleEndian.AppendUint64(b, r.Addr)
	b = binary.LittleEndian.AppendUint64(b, r.Addr+uint64(len(r.Bytes))-1)
	return binary.LittleEndian.AppendUint64(b, 0)
}

// Memory is memory that compresses in part.
func Memory(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		if i/4096%3 == 0 {
			b[i] = byte(r.Uint32())
		} else {
			b[i] = byte(i / 4096)
		}
	}
	return b
}
