package guest

import (
	"bytes"
	"context"
	"encoding/binary"
	"path/filepath"
	"testing"

	"vmcsnote/elfnote"
)

// plantedPage is memory with another page in one place.
type plantedPage struct {
	Source
	at   uint64
	page []byte
}

func (p plantedPage) ReadPhys(b []byte, addr uint64) (int, error) {
	n, err := p.Source.ReadPhys(b, addr)
	for i := range b[:n] {
		if off := addr + uint64(i) - p.at; off < uint64(len(p.page)) {
			b[i] = p.page[off]
		}
	}
	return n, err
}

// TestExtractInfoOfKernel: a second VMCOREINFO of a kernel that could run,
// which any program of the guest can put into memory, is not taken: the kernel
// leads to its own.
func TestExtractInfoOfKernel(t *testing.T) {
	h := OpenHost(openCore(t, "linux-host/amd-6.1"))
	if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil {
		t.Fatal(err)
	}
	if err := h.FindRegisters(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	m := h.Machines[0]
	k, err := m.Linux()
	if err != nil {
		t.Fatal(err)
	}
	mem, err := m.Memory()
	if err != nil {
		t.Fatal(err)
	}
	own := k.VMCoreInfo()
	forged := bytes.Replace([]byte(own), []byte("BUILD-ID=3"), []byte("BUILD-ID=4"), 1)
	if bytes.Equal(forged, []byte(own)) {
		t.Fatal("nothing to forge")
	}
	planted := plantedPage{Source: mem, page: elfnote.Note{Name: elfnote.VMCoreInfo, Desc: forged}.Encode(binary.LittleEndian)}
	for r := range mem.Ranges() {
		page := make([]byte, pageSize)
		if n, _ := mem.ReadPhys(page, r.Addr); n == pageSize && r.Addr > 0 && len(bytes.Trim(page, "\x00")) == 0 {
			planted.at = r.Addr
			break
		}
	}
	if planted.at == 0 {
		t.Fatal("no page is empty")
	}
	var regs []*Registers
	for _, v := range m.VCPUs {
		regs = append(regs, v.Regs)
	}
	out := filepath.Join(t.TempDir(), "core")
	s, err := Extraction{Mem: planted, VCPUs: regs}.Write(context.Background(), out)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Infos) == 0 {
		t.Error("the forged note was not met")
	}
	if s.Info != InfoFound || s.Release != "6.1.0-56-cloud-amd64" {
		t.Errorf("%v, %q", s.Info, s.Release)
	}
}
