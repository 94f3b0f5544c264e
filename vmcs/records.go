package vmcs

import (
	"encoding/binary"
	"fmt"

	"github.com/pkg/errors"
)

// recordSize is the size of a version 2 record: the field's encoding (4 bytes)
// and what VMREAD returned (8 bytes, zero-extended).
const recordSize = 12

// parseRecords reads a binary VMCSINFO (kernel patches of May 2012, version
// 2): the revision identifier in 4 bytes, then records, little-endian and
// without a count; zeros may follow. A field of value 0 is one that the
// processor does not have.
func parseRecords(desc []byte) (*Layout, error) {
	if len(desc) < 4+recordSize {
		return nil, errors.Wrapf(ErrLayout, "no text, and %d bytes, expected at least %d for a record", len(desc), 4+recordSize)
	}
	b := newBuilder(FormRecords)
	b.RevisionID = binary.LittleEndian.Uint32(desc)
	if b.RevisionID > maxRevisionID {
		return nil, errors.Wrapf(ErrLayout, "no text, and bytes 0 to 3 are %#x, expected a revision id of 31 bits", b.RevisionID)
	}
	fields := 0
	for at := 4; at < len(desc); at += recordSize {
		var rec [recordSize]byte
		n := copy(rec[:], desc[at:])
		if rec == [recordSize]byte{} {
			continue
		}
		if n < recordSize {
			return nil, errors.Wrapf(ErrLayout, "no text, and %d bytes at offset %d, expected a record of %d or zeros", n, at, recordSize)
		}
		number := binary.LittleEndian.Uint32(rec[:])
		value := binary.LittleEndian.Uint64(rec[4:])
		encoding := Encoding(number)
		if uint32(encoding) != number || !encoding.Valid() {
			return nil, errors.Wrapf(ErrLayout, "no text, and %#x at offset %d, expected a field's encoding", number, at)
		}
		if value == 0 {
			continue
		}
		if fields++; fields > maxFields {
			return nil, errors.Wrapf(ErrLayout, "more than %d records, expected no more than a page has fields", maxFields)
		}
		f, _ := FieldByEncoding(encoding)
		b.placeCells(fmt.Sprintf("record at offset %d", at), f, true, value)
	}
	return b.finish(fields)
}
