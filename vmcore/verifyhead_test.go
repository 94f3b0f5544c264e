package vmcore

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
)

// TestVerifyHead: it finds what Verify finds, but for pages and records, and
// reads no more than headers and notes.
func TestVerifyHead(t *testing.T) {
	twice := kdumpSpec{notes: []elfnote.Note{testVMCSInfo, testVMCSInfo}, subBlocks: 3}.build()
	flat := flatOf(inRecords(twice, 4096)...)
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
	lost := kdumpSpec{cut: 8192}.build()
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

// withoutTables returns the findings but for the remark on VMCOREINFO, whose text
// is a test's own and tells nothing of page tables.
func withoutTables(found []Finding) []Finding {
	return slices.DeleteFunc(found, func(f Finding) bool { return f.Remark && strings.HasPrefix(f.Text, "VMCOREINFO has no line") })
}
