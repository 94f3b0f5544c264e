package vmcore

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore/internal/testdumps"
)

// TestVerifyPageTables: a VMCOREINFO that does not tell where the kernel's page
// tables are gets a remark, in either container.
func TestVerifyPageTables(t *testing.T) {
	const with, without = "OSRELEASE=6.1.0\nSYMBOL(swapper_pg_dir)=ffffffff82e10000\n", "OSRELEASE=6.1.0\n"
	elf := func(info string) []Finding {
		return testdumps.OpenText(t, "elf\nnotes\nnote name=VMCOREINFO desc="+strconv.Quote(info)+"\nload p_paddr=0x1000 size=0x1000").Verify()
	}
	kdump := func(info string) []Finding {
		return testdumps.OpenKDump(t, testdumps.KDump{NoInfo: true, Notes: []elfnote.Note{{Name: elfnote.VMCoreInfo, Desc: []byte(info)}}}.Build()).Verify()
	}
	for name, verify := range map[string]func(string) []Finding{"ELF": elf, "kdump-compressed": kdump} {
		told := func(info string) bool {
			return slices.ContainsFunc(verify(info), func(f Finding) bool { return f.Remark && strings.Contains(f.Text, "no line SYMBOL(swapper_pg_dir)") })
		}
		if told(with) || !told(without) {
			t.Errorf("%s: remark with the line: %v; without it: %v, expected true", name, told(with), told(without))
		}
	}
}

// TestVerifyHead: it finds what Verify finds, but for pages and records, and
// reads no more than headers and notes.
func TestVerifyHead(t *testing.T) {
	twice := testdumps.KDump{Notes: []elfnote.Note{testdumps.VMCSInfo, testdumps.VMCSInfo}, SubBlocks: 3}.Build()
	flat := testdumps.Flat(testdumps.InRecords(twice, 4096)...)
	for name, b := range map[string][]byte{
		"kdump":     twice,
		"flattened": flat,
		"ELF":       testcores.Bytes(t, "bad-vmcsinfo-twice"),
	} {
		c, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		found := faultsOf(VerifyHead(c))
		if len(found) != 1 || !slices.Contains(c.Verify(), found[0]) {
			t.Errorf("%s: findings are %v, all are %v", name, found, c.Verify())
		}
	}
	lost := testdumps.KDump{Cut: 8192}.Build()
	c, err := Open(bytes.NewReader(lost), int64(len(lost)))
	if err != nil {
		t.Fatal(err)
	}
	if all, head := faultsOf(c.Verify()), faultsOf(VerifyHead(c)); len(all) == 0 || len(head) > 0 {
		t.Errorf("pages after the end: all findings are %v, those of the head %v", all, head)
	}
}

// faultsOf returns the findings but for remarks.
func faultsOf(found []Finding) []Finding {
	return slices.DeleteFunc(found, func(f Finding) bool { return f.Remark })
}
