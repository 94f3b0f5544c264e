// Package lzo decompresses pages that makedumpfile has compressed with LZO.
package lzo

import "github.com/pkg/errors"

// ErrFormat means that the bytes are not what an LZO1X compressor writes, or
// are more than the page has room for.
var ErrFormat = errors.New("not LZO1X data of a page")

// Decompress decompresses src, a block of LZO1X, into page, and returns how
// many bytes it is. The error is [ErrFormat].
//
// Documentation/staging/lzo.rst of Linux describes the format: instructions
// that each copy bytes from what came out before, then up to 3 literal ones;
// and runs of literal bytes. The module that does this too takes more than
// twice as long, since it copies byte by byte.
func Decompress(page, src []byte) (int, error) {
	z := block{src: src, page: page}
	if len(src) < 3 {
		return 0, ErrFormat
	}
	// state is the number of literal bytes that came last: 1 to 3 after a
	// copy, 4 for a run of them. It decides what the next instruction means.
	state := 0
	if src[0] > 17 { // a run at the very start
		z.in, state = 1, min(int(src[0])-17, 4)
		if !z.literals(int(src[0]) - 17) {
			return 0, ErrFormat
		}
	}
	for {
		op, ok := z.byte()
		if !ok {
			return z.out, ErrFormat
		}
		var n, dist, low int // the copy's length and distance; the low bits have the literals
		switch {
		case op >= 64:
			low, ok = z.byte()
			n, dist = op>>5+1, low<<3+op>>2&7+1
			low = op
		case op >= 32:
			n = z.length(op&31, 31) + 2
			low, ok = z.word()
			dist = low>>2 + 1
		case op >= 16:
			n = z.length(op&7, 7) + 2
			low, ok = z.word()
			if dist = op&8<<11 + low>>2; ok && dist == 0 { // the end
				if n != 3 || z.in != len(src) {
					ok = false
					break
				}
				return z.out, nil
			}
			dist += 1 << 14
		case state == 0:
			if !z.literals(z.length(op, 15) + 3) {
				return z.out, ErrFormat
			}
			state = 4
			continue
		default:
			low, ok = z.byte()
			n, dist = 2, low<<2+op>>2+1
			if state == 4 {
				n, dist = 3, dist+1<<11
			}
			low = op
		}
		state = low & 3
		if !ok || !z.copy(n, dist) || state > 0 && !z.literals(state) {
			return z.out, ErrFormat
		}
	}
}

// A block is the state of a block that is being decompressed.
type block struct {
	src, page []byte
	in, out   int // bytes of src taken, and of page filled
}

func (z *block) byte() (int, bool) {
	if z.in >= len(z.src) {
		return 0, false
	}
	z.in++
	return int(z.src[z.in-1]), true
}

func (z *block) word() (int, bool) {
	low, _ := z.byte()
	high, ok := z.byte()
	return high<<8 | low, ok
}

// length returns the length n of an instruction; 0 stands for base, plus 255
// for each zero byte that follows, plus the byte after those. If src ends
// there, the caller fails at its next byte.
func (z *block) length(n, base int) int {
	if n > 0 {
		return n
	}
	for n = base; z.in < len(z.src) && z.src[z.in] == 0; z.in++ {
		n += 255
	}
	b, _ := z.byte()
	return n + b
}

// literals copies n bytes from src.
func (z *block) literals(n int) bool {
	src, page := z.src[z.in:], z.page[z.out:]
	if n > len(src) || n > len(page) {
		return false
	}
	if n <= 16 && len(src) >= 16 && len(page) >= 16 {
		*(*[16]byte)(page) = *(*[16]byte)(src) // one move; what is too much is overwritten later
	} else {
		copy(page, src[:n])
	}
	z.in, z.out = z.in+n, z.out+n
	return true
}

// copy copies n bytes that came out dist bytes ago. They may reach into what
// they make.
func (z *block) copy(n, dist int) bool {
	if dist > z.out || n > len(z.page)-z.out {
		return false
	}
	from := z.page[z.out-dist:]
	to := from[dist:]
	if dist >= 16 && n <= 16 && len(to) >= 16 {
		*(*[16]byte)(to) = *(*[16]byte)(from)
	} else {
		for k := 0; k < n; { // each round doubles what there is to copy
			k += copy(to[k:n], from[:dist+k])
		}
	}
	z.out += n
	return true
}
