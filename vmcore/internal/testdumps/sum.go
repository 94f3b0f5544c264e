package testdumps

import (
	"hash/crc32"
	"io"

	"vmcsnote/vmcore/internal/faults"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum extends the checksum sum by n bytes of r at off. It reads no holes:
// a thin core has hundreds of MB of them.
func checksum(sum uint32, r io.ReaderAt, off, n int64, buf []byte) (uint32, error) {
	end := off + n
	if n > 0 { // a hole may reach beyond what there is
		if k, err := r.ReadAt(buf[:1], end-1); k < 1 {
			return 0, err
		}
	}
	for e := range faults.Data(r, off, n) {
		sum = zeros(sum, int64(e.Off)-off)
		for off = int64(e.Off); off < int64(e.Off+e.Size); {
			part := buf[:min(int64(e.Off+e.Size)-off, int64(len(buf)))]
			if k, err := r.ReadAt(part, off); k < len(part) {
				return 0, err
			}
			sum = crc32.Update(sum, castagnoli, part)
			off += int64(len(part))
		}
	}
	return zeros(sum, end-off), nil
}

// zeros extends the checksum sum by n zeros. Each is a multiplication by x^8,
// modulo the polynomial.
func zeros(sum uint32, n int64) uint32 {
	power, sum := uint32(1)<<(31-8), ^sum
	for ; n > 0; n /= 2 {
		if n%2 == 1 {
			sum = times(sum, power)
		}
		power = times(power, power)
	}
	return ^sum
}

// times multiplies two polynomials, whose highest bits are those of x^0.
func times(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		if a>>31 == 1 {
			product ^= b
		}
		b = b>>1 ^ b&1*crc32.Castagnoli
	}
	return product
}
