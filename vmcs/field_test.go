package vmcs

import (
	"slices"
	"strings"
	"testing"
)

func TestFieldsAgreeWithTheirEncoding(t *testing.T) {
	widths := map[string]int{"16": 2, "32": 4, "64": 8, "natural": 8}
	names := make(map[string]bool)
	count := 0
	for _, file := range []string{"fields.tsv", "fields_extra.tsv"} {
		for _, r := range readFile(file).table().rows {
			count++
			f := Field{Encoding(r.number(0)), r[1]}
			width := widths[r[2]]
			if f.High() {
				width = 4
			}
			if !f.Valid() {
				t.Errorf("%s: encoding %v has reserved bits set", f, f.Encoding)
			}
			if f.Width() != width || f.Natural() != (r[2] == "natural") {
				t.Errorf("%s (%v): %d bytes, natural %v, the table says %s", f, f.Encoding, f.Width(), f.Natural(), r[2])
			}
			if f.Kind().String() != r[3] {
				t.Errorf("%s (%v): kind %v, the table says %s", f, f.Encoding, f.Kind(), r[3])
			}
			if f.High() != (r[4] == "high") || f.High() != strings.HasSuffix(f.Name, "_HIGH") {
				t.Errorf("%s (%v): high %v, the table says %s", f, f.Encoding, f.High(), r[4])
			}
			if full, ok := FieldByEncoding(f.Encoding &^ 1); !ok || f.High() && full.Name+"_HIGH" != f.Name {
				t.Errorf("%s (%v) is the high half of %s", f, f.Encoding, full)
			}
			if names[f.Name] {
				t.Errorf("%s has two encodings", f)
			}
			names[f.Name] = true
			if got, ok := FieldByName(f.Name); !ok || got != f {
				t.Errorf("FieldByName(%s) = %v, %v", f, got, ok)
			}
			if got, ok := FieldByEncoding(f.Encoding); !ok || got != f {
				t.Errorf("FieldByEncoding(%v) = %v, %v", f.Encoding, got, ok)
			}
		}
	}
	fields := Fields()
	if len(fields) != count || count != 259 {
		t.Errorf("%d fields, %d in the tables, expected 259", len(fields), count)
	}
	if !slices.IsSortedFunc(fields, func(a, b Field) int { return int(a.Encoding) - int(b.Encoding) }) {
		t.Error("Fields is not in order of encoding")
	}
}

func TestEncoding(t *testing.T) {
	for _, tt := range []struct {
		name    string
		e       Encoding
		valid   bool
		width   int
		natural bool
		high    bool
		kind    Kind
	}{
		{name: "16-bit control, the lowest", e: 0x0000, valid: true, width: 2, kind: Control},
		{name: "16-bit guest state", e: 0x0802, valid: true, width: 2, kind: Guest},
		{name: "64-bit exit information", e: 0x2400, valid: true, width: 8, kind: ExitInfo},
		{name: "its high half", e: 0x2401, valid: true, width: 4, high: true, kind: ExitInfo},
		{name: "32-bit host state", e: 0x4c00, valid: true, width: 4, kind: Host},
		{name: "natural-width guest state", e: 0x681e, valid: true, width: 8, natural: true, kind: Guest},
		{name: "high half of a 32-bit field", e: 0x4001, width: 4, high: true, kind: Control},
		{name: "bit 12 set", e: 0x1000, width: 2, kind: Control},
		{name: "bit 15 set", e: 0x8000, width: 2, kind: Control},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.e
			if e.Valid() != tt.valid || e.Width() != tt.width || e.Natural() != tt.natural || e.High() != tt.high || e.Kind() != tt.kind {
				t.Errorf("%v: valid %v, %d bytes, natural %v, high %v, %v", e, e.Valid(), e.Width(), e.Natural(), e.High(), e.Kind())
			}
		})
	}
}

func TestUnnamedFields(t *testing.T) {
	if f, ok := FieldByEncoding(0x20fe); ok || f.Name != "0x20fe" || f.Encoding != 0x20fe {
		t.Errorf("FieldByEncoding(0x20fe) = %v, %v", f, ok)
	}
	if f, ok := FieldByName("GUEST_SOUL"); ok || f != (Field{}) {
		t.Errorf("FieldByName(GUEST_SOUL) = %v, %v", f, ok)
	}
}
