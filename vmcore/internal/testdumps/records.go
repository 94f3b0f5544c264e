package testdumps

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"vmcsnote/vmcore/internal/flat"
)

// A Record is one of a flattened dump made for a test.
type Record struct {
	Off  int64
	Body []byte
}

// At returns a record of the bytes at off of the plain form.
func At(off int64, body []byte) Record { return Record{off, body} }

// Flat returns a flattened dump of the records as they come.
func Flat(records ...Record) []byte {
	b := flat.Header()
	for _, r := range records {
		b = append(b, RecordHeader(r.Off, int64(len(r.Body)))...)
		b = append(b, r.Body...)
	}
	return append(b, flat.EndMarker...)
}

// RecordHeader returns the header of a record.
func RecordHeader(off, size int64) []byte {
	b := make([]byte, flat.RecordHeader)
	flat.PutRecordHeader(b, off, size)
	return b
}

// InRecords cuts plain into records of size bytes.
func InRecords(plain []byte, size int) (records []Record) {
	for off := 0; off < len(plain); off += size {
		records = append(records, Record{int64(off), plain[off:min(off+size, len(plain))]})
	}
	return records
}

// Rearranged is what makedumpfile -R makes of a flattened dump.
func Rearranged(t testing.TB, dump []byte) []byte {
	t.Helper()
	plain, whole := Rearrange(dump)
	if !whole {
		t.Fatal("the dump is cut off")
	}
	return plain
}

// Rearrange reports whether the dump has its last record, too.
func Rearrange(dump []byte) (plain []byte, whole bool) {
	for b := dump[flat.HeaderSize:]; len(b) >= flat.RecordHeader; {
		off, size := int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))
		if off == -1 && size == -1 {
			return plain, true
		}
		if b = b[flat.RecordHeader:]; size > int64(len(b)) {
			break
		}
		plain = append(plain, make([]byte, max(off+size-int64(len(plain)), 0))...)
		copy(plain[off:], b[:size])
		b = b[size:]
	}
	return nil, false
}

// Backwards returns the records from the last to the first.
func Backwards(records []Record) []Record {
	out := slices.Clone(records)
	slices.Reverse(out)
	return out
}

// NotZero leaves out records of zeros, but for the last.
func NotZero(records []Record) (out []Record) {
	for i, r := range records {
		if i == len(records)-1 || strings.Trim(string(r.Body), "\x00") != "" {
			out = append(out, r)
		}
	}
	return out
}
