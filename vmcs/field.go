package vmcs

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"sync"
)

// Encoding is what VMREAD and VMWRITE take to name a field. The SDM (volume 3,
// "Field Encoding in VMCS") lays it out: bit 0 access type (1: the high half
// of a 64-bit field), bits 9:1 index, bits 11:10 kind, bits 14:13 width; bits
// 12 and 15 (and up) are zero.
type Encoding uint16

// Valid reports whether e keeps the SDM's rules: no reserved bit set, and the
// access type high for 64-bit fields only.
func (e Encoding) Valid() bool {
	return e&0x9000 == 0 && (e&1 == 0 || e>>13 == 1)
}

// Width is the size in bytes of the value e accesses: 2, 4 or 8. A
// natural-width field has 8, as it has on every processor with Intel 64.
func (e Encoding) Width() int {
	switch {
	case e>>13&3 == 0:
		return 2
	case e>>13&3 == 2 || e.High():
		return 4
	}
	return 8
}

// Natural reports whether the field is as wide as the processor's registers.
func (e Encoding) Natural() bool { return e>>13&3 == 3 }

// High reports whether e accesses bits 63:32 of a 64-bit field.
func (e Encoding) High() bool { return e&1 == 1 }

// Kind is the group of fields e belongs to.
func (e Encoding) Kind() Kind { return Kind(e >> 10 & 3) }

// String returns e as the 2012 kernel patches name files after it, with 0x.
func (e Encoding) String() string { return fmt.Sprintf("0x%04x", uint16(e)) }

// Rights reports whether e is one of GUEST_ES_AR_BYTES to GUEST_TR_AR_BYTES,
// the only fields known to be stored otherwise than VMREAD returns them.
func (e Encoding) Rights() bool { return e >= GuestESARBytes && e <= GuestTRARBytes && e&1 == 0 }

// Kind is what a field is for.
type Kind uint8

// The kinds, by the numbers they have in an encoding's bits 11:10.
const (
	Control  Kind = iota // VM-execution, VM-exit and VM-entry controls
	ExitInfo             // VM-exit information, read-only on older processors
	Guest                // guest state
	Host                 // host state
)

// String names the kind as the SDM does.
func (k Kind) String() string {
	return [...]string{"control", "exit-info", "guest", "host"}[k&3]
}

// Field is a VMCS field: its encoding, with all that follows from it, and its
// name.
type Field struct {
	Encoding
	// Name is that of Linux's enum vmcs_field (arch/x86/include/asm/vmx.h);
	// for the few fields Linux has no name for it is made after the SDM's.
	Name string
}

// String returns the name.
func (f Field) String() string { return f.Name }

// fieldTable holds layouts/fields.tsv and layouts/fields_extra.tsv.
var fieldTable = sync.OnceValue(func() *fieldIndex {
	t := &fieldIndex{byName: make(map[string]Field)}
	for _, file := range []string{"fields.tsv", "fields_extra.tsv"} {
		for _, row := range readFile(file).table().rows {
			f := Field{Encoding(row.number(0)), row[1]}
			t.fields = append(t.fields, f)
			t.byName[f.Name] = f
		}
	}
	sort.Slice(t.fields, func(i, j int) bool { return t.fields[i].Encoding < t.fields[j].Encoding })
	return t
})

type fieldIndex struct {
	fields []Field // in order of encoding
	byName map[string]Field
}

// Fields returns every field that has a name, in order of encoding.
func Fields() []Field { return slices.Clone(fieldTable().fields) }

// FieldByName finds the field called name; false if there is none.
func FieldByName(name string) (Field, bool) {
	f, ok := fieldTable().byName[name]
	return f, ok
}

// FieldByEncoding finds the field with encoding e. If the table has no name for
// e, the field's name is the number, and the result is false.
func FieldByEncoding(e Encoding) (Field, bool) {
	fields := fieldTable().fields
	i, ok := slices.BinarySearchFunc(fields, e, func(f Field, e Encoding) int { return cmp.Compare(f.Encoding, e) })
	if !ok {
		return Field{e, e.String()}, false
	}
	return fields[i], true
}
