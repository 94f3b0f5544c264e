package elfcore_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/plan"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestEvictCutOff: nothing is appended to a core that ends before what its
// headers claim, for readers would find it there.
func TestEvictCutOff(t *testing.T) {
	whole := testcores.Bytes(t, "kernel-full")
	size := uint64(len(whole))
	for _, tt := range []struct {
		name  string
		shoff uint64
		shnum uint16
		want  string
	}{
		{"without section headers", 0, 0, ""},
		{"section headers beyond the end", size + 0x500, 2, "expected 0x9580"},
		{"cut off before its section headers", size, 2, "expected 0x9080"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(whole)
			binary.LittleEndian.PutUint64(b[40:], tt.shoff)
			binary.LittleEndian.PutUint16(b[58:], 64)
			binary.LittleEndian.PutUint16(b[60:], tt.shnum)
			c, err := elfcore.Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.PlanEvict(c.Notes().Append(testdumps.Note(t, "kernel-full")))
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (!errors.Is(err, plan.ErrNoPlace) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}
