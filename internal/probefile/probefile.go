// Package probefile reads what the kernel module's experiments saw on a
// processor: the file vmcsinfo/probe of debugfs, whose format is in
// kmod/probe.h. It tells why the module could not locate a field.
package probefile

import (
	"bytes"
	"encoding/binary"

	"github.com/pkg/errors"

	"vmcsnote/vmcs"
)

// MaxSize bounds the size of a file: the module writes less.
const MaxSize = 1 << 20

const (
	magic       = "VMCSPROB"
	version     = 1
	headSize    = 16
	sectionSize = 16
)

// Errors by which the module says why it has no offset. They are Linux's.
const (
	NotFound = -2  // ENOENT: no cells, or the marker is elsewhere
	NoField  = -5  // EIO: VMREAD failed
	Failed   = -6  // ENXIO: VMWRITE failed
	ReadOnly = -30 // EROFS: VMWRITE failed because it may not write the field
)

// A File holds the contents of such a file.
type File struct {
	Facts  []byte // lines NAME=VALUE
	Fields []Field
	// Zeros and Ones are the VMCS's page after VMCLEAR with all markers, over a
	// background of 0x00 and of 0xff; Cells is the page that VMREAD read.
	Cells, Zeros, Ones []byte
	// Cleared are bytes that VMCLEAR alone changes.
	Cleared []Diff

	fields map[vmcs.Encoding]int // in Fields
}

// A Field is what the experiments saw of a field.
type Field struct {
	Encoding vmcs.Encoding
	Value    uint64 // what VMREAD returned
	Marker   uint64 // what VMWRITE wrote
	Read     int32  // the offset that follows from Value, or an error
	Write    int32  // 0 or an error
	Offset   int32  // where the module located it, or an error
	// Alone are the bytes that change if this field alone is written.
	Alone []Diff
}

// A Diff is a byte of the page that changes.
type Diff struct {
	Offset        int
	Before, After byte
}

// Parse reads the contents of a file.
func Parse(b []byte) (*File, error) {
	if len(b) < headSize || string(b[:8]) != magic {
		return nil, errors.Errorf("begins with %q, expected %q: no file of the module's experiments", b[:min(len(b), 8)], magic)
	}
	v, size := word(b[8:]), word(b[12:])
	if v != version || size < headSize || size > uint64(len(b)) {
		return nil, errors.Errorf("offset 0x8: version %d of %d bytes, expected version %d of at most %d", v, size, version, len(b))
	}
	b = b[:size]
	f := &File{fields: make(map[vmcs.Encoding]int)}
	for at := headSize; at < len(b); {
		head := b[at:min(at+sectionSize, len(b))]
		if len(head) < sectionSize {
			return nil, errors.Errorf("offset %#x: %d bytes, expected a section", at, len(head))
		}
		records := b[at+sectionSize:]
		name, count, size := string(bytes.TrimRight(head[:8], "\x00")), word(head[8:]), word(head[12:])
		if size < least[name] || size > uint64(len(records)) || size > 0 && count > uint64(len(records))/size {
			return nil, errors.Errorf("offset %#x: section %q has %d records of %d bytes, expected of at least %d, and %d bytes in all at most",
				at, name, count, size, least[name], len(records))
		}
		f.add(name, records[:count*size], int(size))
		at += sectionSize + int(count*size+7)&^7
	}
	return f, nil
}

// least is the least size in bytes of a record, by section.
var least = map[string]uint64{"facts": 1, "fields": 32, "cells": 1, "zeros": 1, "ones": 1, "diffs": 6}

func word(b []byte) uint64 { return uint64(binary.LittleEndian.Uint32(b)) }

// add adds the records of a section; each has size bytes.
func (f *File) add(name string, records []byte, size int) {
	if p := map[string]*[]byte{"facts": &f.Facts, "cells": &f.Cells, "zeros": &f.Zeros, "ones": &f.Ones}[name]; p != nil {
		*p = records
		return
	}
	for r := records; len(r) > 0 && size > 0; r = r[size:] {
		switch name {
		case "fields":
			encoding := vmcs.Encoding(binary.LittleEndian.Uint16(r[28:]))
			f.fields[encoding] = len(f.Fields)
			f.Fields = append(f.Fields, Field{
				Value:    binary.LittleEndian.Uint64(r),
				Marker:   binary.LittleEndian.Uint64(r[8:]),
				Read:     int32(word(r[16:])),
				Write:    int32(word(r[20:])),
				Offset:   int32(word(r[24:])),
				Encoding: encoding,
			})
		case "diffs":
			to := &f.Cleared
			if i, ok := f.fields[vmcs.Encoding(binary.LittleEndian.Uint16(r))]; ok {
				to = &f.Fields[i].Alone
			}
			*to = append(*to, Diff{int(binary.LittleEndian.Uint16(r[2:])), r[4], r[5]})
		}
	}
}

// Located returns the number of fields that were located.
func (f *File) Located() (n int) {
	for _, field := range f.Fields {
		if field.Offset >= 0 {
			n++
		}
	}
	return n
}

// At returns a field's bytes in one of the file's pages, where VMREAD read it;
// nil if it did not.
func (f Field) At(page []byte) []byte {
	at, n := int(f.Read), f.Encoding.Width()
	if at < 0 || at > len(page)-n {
		return nil
	}
	return page[at : at+n]
}
