package vmcsmap

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/visible"
	"vmcsnote/vmcs"
)

// FuzzMaps: whatever a note says, the map has its form, and the picture is XML.
func FuzzMaps(f *testing.F) {
	f.Add([]byte("REVISION_ID=d\nFIELD(PIN_BASED_VM_EXEC_CONTROL)=01840180\n"))
	f.Add([]byte("REVISION_ID=d\nFORM=offsets\nFIELD(<a>&\"]]>)=8\nFIELD(GUEST_RIP)=ff8\nFIELD(HOST_RIP)=1c\nFIELD(GUEST_CR0)=1e\nFIELD(IO_BITMAP_A_HIGH)=20\n"))
	var all strings.Builder
	all.WriteString("REVISION_ID=d\nFORM=offsets\n")
	for i := range 2000 {
		fmt.Fprintf(&all, "FIELD(F%d)=%x\n", i, 8+2*i)
	}
	f.Add([]byte(all.String()))
	f.Add([]byte("REVISION_ID=d\nFORM=offsets\nFIELD(TSC_OFFSET)=350\nFIELD(TSC_OFFSET_HIGH)=360\nFIELD(EPT_POINTER)=390\nFIELD(EPT_POINTER_HIGH)=394\nFIELD(TPR_THRESHOLD)=394\n"))
	f.Fuzz(func(t *testing.T, desc []byte) {
		l, err := vmcs.ParseNote(desc)
		if err != nil {
			return
		}
		rows, _, _ := strings.Cut(Text(l), "\n\n")
		for row := range strings.Lines(rows) {
			row = strings.TrimSuffix(row, "\n")
			if row != "    *" && len(row) != len("0x0000  ")+mapRow {
				t.Fatalf("row %q", row)
			}
		}
		if n := strings.Count(Table(l), "\n"); n != len(l.Entries)+1 {
			t.Fatalf("%d lines for %d fields", n, len(l.Entries))
		}
		picture := SVG(l, "a title")
		d := xml.NewDecoder(strings.NewReader(picture))
		fields, text := 0, new(strings.Builder)
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in %q", err, picture)
			}
			switch token := token.(type) {
			case xml.StartElement:
				if token.Name.Local == "title" {
					fields++
				}
			case xml.CharData:
				text.Write(token)
			}
		}
		all := text.String()
		for _, e := range l.Entries {
			if where := fmt.Sprintf("%s at %#x", visible.Name(e.Name), e.Offset); !strings.Contains(all, where) {
				t.Fatalf("%s is not in the picture", where)
			}
		}
		if fields < 7 || fields > 7+2*len(l.Entries) {
			t.Fatalf("%d titles for %d fields", fields, len(l.Entries))
		}
	})
}
