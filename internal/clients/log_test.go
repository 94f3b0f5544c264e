package clients

import (
	"fmt"
	"strings"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/linux"
	"vmcsnote/vmcore"
)

// makedumpfile prints the kernel's log as package linux reads it.
func TestLog(t *testing.T) {
	testcores.Tool(t, "makedumpfile")
	for _, name := range []string{"deb-t1.elf31", "cloud-c1.elf31"} {
		t.Run(name, func(t *testing.T) {
			path := testcores.Open(t, name)
			want, _, err := dmesg(t, path)
			if err != nil {
				t.Fatalf("%v: %s", err, want)
			}
			core, err := vmcore.OpenFile(path)
			if err != nil {
				t.Fatal(err)
			}
			defer core.Close()
			i, _ := core.Notes().Find(elfnote.VMCoreInfo, 0)
			note, err := core.Notes().Note(i, 1<<16)
			if err != nil {
				t.Fatal(err)
			}
			k, err := linux.Open(core, string(note.Desc))
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for r, err := range k.Log() {
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintln(&got, r)
			}
			if got.String() != want || want == "" {
				t.Errorf("got\n%s\nwant\n%s", got.String(), want)
			}
		})
	}
}
