package vmcore

import (
	"fmt"
	"strings"
	"testing"

	"vmcsnote/internal/testcores"
)

// TestFlatVerify names what is wrong with records.
func TestFlatVerify(t *testing.T) {
	plain := testcores.Bytes(t, "kernel-slack")
	whole := inRecords(plain, 4096)
	for _, tc := range []struct {
		name  string
		bytes []byte
		want  []string
	}{
		{"in order", flatOf(whole...), nil},
		{"backwards", flatOf(backwards(whole)...), nil},
		{"a byte twice", flatOf(append(whole, record{4095, []byte{plain[4095]}})...),
			[]string{"remark: 0x1 bytes of the plain form are in more than one record, the first at offset 0xfff"}},
		{"a page of memory missing", flatOf(append(whole[:4:4], whole[5:]...)...),
			[]string{"fault: 0x1000 bytes that the dump consists of are in no record, the first at offset 0x4000 of the plain form"}},
		{"the rest of a device", append(flatOf(whole...), make([]byte, 512)...),
			[]string{fmt.Sprintf("remark: 0x200 bytes after the end marker at offset %#x of the file", len(flatOf(whole...))-16)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := mustFlat(t, tc.bytes)
			var got []string
			for _, x := range f.Verify() {
				kind := "fault"
				if x.Remark {
					kind = "remark"
				}
				got = append(got, kind+": "+x.Text)
				if x.Readers == "" {
					t.Errorf("%s: of which reader?", x.Text)
				}
			}
			if len(got) != len(tc.want) {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tc.want[i]) {
					t.Errorf("got %q, want %q", got[i], tc.want[i])
				}
			}
		})
	}
}

func backwards(records []record) []record {
	out := make([]record, len(records))
	for i, r := range records {
		out[len(records)-1-i] = r
	}
	return out
}
