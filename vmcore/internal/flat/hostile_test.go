package flat_test

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestHostile: each row is a dump that no reader may take.
func TestHostile(t *testing.T) {
	raw := func(parts ...[]byte) []byte { return append(flat.Header(), bytes.Join(parts, nil)...) }
	head := func(at int, b byte) []byte {
		h := append(flat.Header(), flat.EndMarker...)
		h[at] = b
		return h
	}
	for _, tc := range []struct {
		name  string
		bytes []byte
		want  string
		is    error
	}{
		{"empty", nil, `signature at offset 0x0: found "", expected "makedumpfile\x00\x00\x00\x00"`, plan.ErrNotCore},
		{"another signature", head(12, 'x'), `found "makedumpfilex`, plan.ErrNotCore},
		{"another type", head(23, 2), "type at offset 0x10: found 2, expected 1", nil},
		{"little-endian", head(16, 1), "type at offset 0x10: found 72057594037927937, expected 1", nil},
		{"another version", head(31, 2), "version at offset 0x18: found 2, expected 1", nil},
		{"the header cut", flat.Header()[:4000], "makedumpfile_header at offset 0x0: found the end of the file at 0xfa0, expected 4096 bytes", plan.ErrTruncated},
		{"negative offset", raw(testdumps.RecordHeader(-2, 1), []byte("a"), flat.EndMarker), "record at offset 0x1000: found offset -2, size 1", nil},
		{"offset -1 with a size", raw(testdumps.RecordHeader(-1, 1), []byte("a"), flat.EndMarker), "found offset -1, size 1, expected an offset of 0 or more and a size of 1 or more, or -1 for both", nil},
		{"offset with size -1", raw(testdumps.RecordHeader(0, -1), flat.EndMarker), "found offset 0, size -1", nil},
		{"size 0", raw(testdumps.RecordHeader(0, 0), flat.EndMarker), "found offset 0, size 0", nil},
		{"least size", raw(testdumps.RecordHeader(0, math.MinInt64), flat.EndMarker), "found offset 0, size -9223372036854775808", nil},
		{"least offset", raw(testdumps.RecordHeader(math.MinInt64, 1), []byte("a"), flat.EndMarker), "found offset -9223372036854775808, size 1", nil},
		{"end of 2^63", raw(testdumps.RecordHeader(math.MaxInt64, 1), []byte("a"), flat.EndMarker), "found offset 9223372036854775807, size 1, expected an end below 1<<63", nil},
		{"offset of 2^62", raw(testdumps.RecordHeader(1<<62, 1), []byte("a"), flat.EndMarker), "records at offset 0x1000: found 0x4000000000000000 bytes that none of them holds", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := flat.Open(bytes.NewReader(tc.bytes), int64(len(tc.bytes)))
			if f != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v is no %v", err, tc.is)
			}
			var format *plan.FormatError
			if !errors.As(err, &format) {
				t.Errorf("%v is no FormatError", err)
			}
		})
	}
}
