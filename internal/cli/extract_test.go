package cli

import (
	"context"
	"io"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/internal/cli/internal/message"
	"vmcsnote/internal/testcores"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// TestSearchedOnce: however many guests are extracted, the host's memory is
// read once to find them, and once for the registers of all.
func TestSearchedOnce(t *testing.T) {
	file, err := vmcore.OpenFile(testcores.Open(t, "vmx/hsw-default/mini"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, tt := range []struct {
		name   string
		guests []string // none for all
		cores  int
	}{
		{"one", []string{"1"}, 1},
		{"two", []string{"1", "3"}, 2},
		{"all", nil, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &pageMore{Core: file.Core}
			ctx, e := context.Background(), &env{Printer: &message.Printer{Stderr: io.Discard}}
			dir := t.TempDir()
			f := extractFlags{guestsFlags: guestsFlags{guests: tt.guests}, out: dir}
			h, err := f.find(ctx, e, c)
			if err != nil {
				t.Fatal(err)
			}
			if n := c.reads.Load(); n != 1 {
				t.Fatalf("%d reads to find the guests, expected 1", n)
			}
			for m := range h.All() {
				for _, v := range m.VCPUs {
					hideStructure(t, v)
				}
			}
			if err := f.extractSeveral(ctx, e, h, slices.Collect(h.All()), nil); err != nil {
				t.Fatal(err)
			}
			cores, err := filepath.Glob(filepath.Join(dir, "*.core"))
			if err != nil || len(cores) != tt.cores {
				t.Errorf("%v, %v, expected %d cores", cores, err, tt.cores)
			}
			if n := c.reads.Load(); n != 2 {
				t.Errorf("%d reads in all, expected 2", n)
			}
		})
	}
}

// hideStructure takes out of a VMCS where KVM's structure of the vCPU is: only
// a pass over all memory finds it.
func hideStructure(t *testing.T, v *guest.VCPU) {
	for _, e := range v.Layout.Entries {
		if e.Known && e.Encoding == vmcs.VMExitMSRLoadAddr {
			v.Page = slices.Clone(v.Page)
			clear(v.Page[e.Offset:][:e.Width])
			return
		}
	}
	t.Fatal("the layout lacks the address of the list")
}

// pageMore is a core with a page of zeros more, which no guest has: passes over
// all memory alone read it.
type pageMore struct {
	vmcore.Core
	reads atomic.Int32
}

var more = physmem.Range{Addr: 1 << 40, Size: 4096}

func (p *pageMore) ReadPhys(b []byte, addr uint64) (int, error) {
	if addr != more.Addr {
		return p.Core.ReadPhys(b, addr)
	}
	p.reads.Add(1)
	clear(b)
	return len(b), nil
}

func (p *pageMore) Ranges() iter.Seq[physmem.Range] {
	return slices.Values(append(slices.Collect(p.Core.Ranges()), more))
}

func (p *pageMore) Data(r physmem.Range) iter.Seq[physmem.Range] {
	if r == more {
		return slices.Values([]physmem.Range{more})
	}
	return p.Core.Data(r)
}

// TestFileNames: whatever a machine is called, its file is a new one in the
// directory.
func TestFileNames(t *testing.T) {
	names := make(fileNames)
	for i, tt := range []struct{ name, machine, want string }{
		{"a name", "web01", "web01.core"},
		{"the same again", "web01", "web01-guest-1.core"},
		{"in other case", "WEB01", "WEB01-guest-2.core"},
		{"no name", "", "guest-3.core"},
		{"a path", "../../etc/passwd", "_.._etc_passwd.core"},
		{"the parent", "..", "guest-5.core"},
		{"hidden", ".bashrc", "bashrc.core"},
		{"a flag", "--force", "force.core"},
		{"for a terminal", "a\x1b[2J\nb", "a_[2J_b.core"},
		{"what another one becomes", "web01-guest-9", "web01-guest-9.core"},
		{"and a third", "web01", "web01-guest-10.core"},
		{"another alphabet", "сервер", "______.core"},
		{"process and pid", "qemu-kvm[4711]", "qemu-kvm[4711].core"},
		{"long", strings.Repeat("x", 5000), strings.Repeat("x", 100) + ".core"},
		{"and long again", strings.Repeat("x", 5000), strings.Repeat("x", 100) + "-guest-14.core"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := names.of(&guest.Machine{Number: i, Name: tt.machine})
			if got != tt.want || filepath.Base(got) != got {
				t.Errorf("%q, expected %q", got, tt.want)
			}
		})
	}
	if got := (fileNames{"a.core": true, "a-guest-1.core": true}).of(&guest.Machine{Number: 1, Name: "a"}); got != "a-guest-1-1.core" {
		t.Errorf("%q", got)
	}
}
