package lime

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sort"
	"sync"

	"github.com/klauspost/compress/snappy"
	"github.com/pkg/errors"

	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/plan"
)

// Chunks of snappy's framing format (framing_format.txt) have a type of one
// byte, a length of three, little-endian, and that many bytes. Those with data
// begin with a checksum of four bytes.
const (
	chunkCompressed = 0x00
	chunkPlain      = 0x01
	chunkSkippable  = 0x80 // and all above: padding, the identifier

	chunkHeader = 4
	chunkSum    = 4
	chunkMemory = 65536 // bytes of memory in a chunk
	// maxChunks bounds the chunks of an image, of which each takes 16 bytes to
	// keep: those of 1 TiB of memory.
	maxChunks = 1 << 24
)

// A framedRange is a range of memory in chunks.
type framedRange struct {
	physmem.Range
	chunks []frameChunk // by address
	held   uint64       // bytes of it whose chunks the file holds
}

// A frameChunk is where a chunk's memory begins in its range, and where the
// chunk lies in the file.
type frameChunk struct{ mem, off uint64 }

// index walks the chunks of a range of n bytes at addr from file offset at, and
// returns where the next range begins. The file may end within the range.
func (m *Image) index(addr, n uint64, at, size int64) (f framedRange, next int64, err error) {
	f.Addr, f.Size = addr, n
	b := make([]byte, chunkHeader+chunkSum+binary.MaxVarintLen32)
	for mem := uint64(0); mem < n; {
		k, err := m.r.ReadAt(b, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return f, 0, errors.Wrapf(err, "offset %#x", at)
		}
		if k < chunkHeader || at+chunkHeader > size {
			return f, size + 1, nil // cut off
		}
		length := int64(b[1]) | int64(b[2])<<8 | int64(b[3])<<16
		body := b[chunkHeader:min(int64(k), chunkHeader+length)]
		var holds uint64
		switch kind := b[0]; {
		case kind == chunkPlain && length > chunkSum:
			holds = uint64(length - chunkSum)
		case kind == chunkCompressed && len(body) > chunkSum:
			v, used := binary.Uvarint(body[chunkSum:])
			if used <= 0 || v == 0 {
				return f, 0, plan.FormatErrorf(at, "snappy chunk", fmt.Sprintf("% x", b[:k]), "a chunk with a length")
			}
			holds = v
		case kind == chunkCompressed && at+chunkHeader+length > size:
			return f, size + 1, nil // cut off
		case kind >= chunkSkippable:
		default:
			return f, 0, plan.FormatErrorf(at, "snappy chunk", fmt.Sprintf("type %#x of %d bytes", kind, length), "data, an identifier or padding")
		}
		if holds > chunkMemory || holds > n-mem {
			return f, 0, plan.FormatErrorf(at, "snappy chunk", fmt.Sprintf("%d bytes of memory", holds), "at most %d", min(chunkMemory, n-mem))
		}
		if holds > 0 {
			if m.chunks++; m.chunks > maxChunks {
				return f, 0, plan.FormatErrorf(at, "number of snappy chunks", "another one", "at most %d", maxChunks)
			}
			f.chunks = append(f.chunks, frameChunk{mem, uint64(at)})
			mem += holds
			if at+chunkHeader+length <= size {
				f.held = mem
			}
		}
		at += chunkHeader + length
	}
	return f, at + 8, nil // after the compressed size
}

// find returns the range that has addr, or nil.
func (m *Image) find(addr uint64) *framedRange {
	i := sort.Search(len(m.framed), func(i int) bool { return m.framed[i].Addr > addr }) - 1
	if i < 0 || !m.framed[i].Contains(addr) {
		return nil
	}
	return &m.framed[i]
}

// after returns how many bytes from addr on lie before the next framed range.
func (m *Image) after(addr uint64) uint64 {
	for _, f := range m.framed {
		if f.Addr > addr {
			return f.Addr - addr
		}
	}
	return 1 << 62
}

// chunkBuffers has buffers for inflating: several goroutines read at a time.
var chunkBuffers = sync.Pool{New: func() any { return new([2][]byte) }}

// read reads memory of one chunk.
func (m *Image) read(f *framedRange, p []byte, addr uint64) (n int, err error) {
	rel := addr - f.Addr
	i := sort.Search(len(f.chunks), func(i int) bool { return f.chunks[i].mem > rel }) - 1
	if i < 0 {
		return 0, plan.ErrTruncated
	}
	buf := chunkBuffers.Get().(*[2][]byte)
	defer chunkBuffers.Put(buf)
	b, err := m.chunk(f.chunks[i], buf)
	if err != nil {
		return 0, err
	}
	skip := rel - f.chunks[i].mem
	if skip >= uint64(len(b)) {
		return 0, plan.ErrTruncated // the last chunk that the file has
	}
	return copy(p, b[skip:]), nil
}

// chunk inflates one chunk into buf.
func (m *Image) chunk(c frameChunk, buf *[2][]byte) (b []byte, err error) {
	defer func() {
		if r := recover(); r != nil { // the file is hostile
			err = errors.Errorf("the decompressor fails: %v", r)
		}
	}()
	head := make([]byte, chunkHeader)
	if err := plan.ReadFull(m.r, head, int64(c.off)); err != nil {
		return nil, err
	}
	length := int(head[1]) | int(head[2])<<8 | int(head[3])<<16
	if length < chunkSum || length > chunkSum+snappy.MaxEncodedLen(chunkMemory) {
		return nil, plan.FormatErrorf(int64(c.off), "snappy chunk", fmt.Sprintf("%d bytes", length), "%d to %d", chunkSum, chunkSum+snappy.MaxEncodedLen(chunkMemory))
	}
	if cap(buf[0]) < length {
		buf[0] = make([]byte, chunkSum+snappy.MaxEncodedLen(chunkMemory))
	}
	src := buf[0][:length]
	if n, err := m.r.ReadAt(src, int64(c.off)+chunkHeader); n < len(src) {
		if errors.Is(err, io.EOF) {
			return nil, plan.ErrTruncated
		}
		return nil, err
	}
	b = src[chunkSum:]
	if head[0] == chunkCompressed {
		if n, err := snappy.DecodedLen(b); err != nil || n > chunkMemory {
			return nil, plan.FormatErrorf(int64(c.off), "snappy chunk", fmt.Sprintf("%d bytes of memory", n), "at most %d", chunkMemory)
		}
		if cap(buf[1]) < chunkMemory {
			buf[1] = make([]byte, chunkMemory)
		}
		if b, err = snappy.Decode(buf[1][:chunkMemory], b); err != nil {
			return nil, errors.Wrapf(err, "snappy chunk at offset %#x", c.off)
		}
	}
	if sum, want := maskedSum(b), binary.LittleEndian.Uint32(src); sum != want {
		return nil, plan.FormatErrorf(int64(c.off)+chunkHeader, "checksum", fmt.Sprintf("%#x", want), "%#x", sum)
	}
	return b, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedSum returns the checksum of the framing format, a masked CRC-32C.
func maskedSum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}
