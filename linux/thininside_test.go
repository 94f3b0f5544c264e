package linux_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmcsnote/internal/x86"
	"vmcsnote/linux"
)

var thinInside = flag.String("thin-inside", "", "make testdata/cores/linux-inside/NAME of what scripts/guestcore wrote to this directory, by -name")

// TestThinInside makes a golden guest: the pages that a look and its log read,
// and of BTF, kallsyms and ORC tables what these need. It does so for
// developers; without -thin-inside there is nothing to do.
func TestThinInside(t *testing.T) {
	if *thinInside == "" {
		return
	}
	src, err := os.Open(filepath.Join(*thinInside, "core"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		t.Fatal(err)
	}
	g, err := readInside(src, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(insideDir, *thinName)
	kallsyms, err := os.ReadFile(filepath.Join(*thinInside, "kallsyms"))
	if err != nil {
		t.Fatal(err)
	}
	sample := strings.Split(strings.TrimSpace(string(kallsyms)), "\n")
	k, err := linux.Find(g.mem, g.roots())
	if err != nil {
		t.Fatal(err)
	}
	s := g.look(k)
	symbols, addrs := framesOf(s)
	var sampled []string
	for _, line := range sample {
		sampled = append(sampled, strings.Fields(line)[2])
	}

	pages := map[uint64]bool{}
	rec := &recorder{mem: g.mem, pages: pages}
	for _, r := range g.roots() { // the page tables that lead to the image
		for _, cr3 := range []uint64{r.CR3, r.CR3 &^ (1 << 12)} {
			for range x86.NewTables(rec, x86.Pages(r.Levels), cr3&x86.AddrMask).MappingsIn(0xffffffff80000000, 0xffffffffbfffffff) {
			}
		}
	}
	recorded := *k
	k = &recorded
	k.ReadBy(rec)
	g.look(k)
	for range k.Log() {
	}
	for _, line := range sample {
		if line, ok := strings.CutSuffix(line, "\t[dummy]"); ok {
			checkModuleSymbol(t, k, line)
		}
	}
	k.CString(must(k.Pointer(must(k.Symbol("vmcoreinfo_data")))), 4096)
	k.Pointer(must(k.Symbol("vmcoreinfo_size")))

	k.ReadBy(g.mem)
	patches, err := k.Prune(guestStructs, slices.Concat(guestSymbols, symbols), sampled, true)
	if err != nil {
		t.Fatal(err)
	}
	orc, err := k.PruneORC(addrs)
	if err != nil {
		t.Fatal(err)
	}
	patched := splitPatches(t, append(patches, orc...), k.Phys)
	for _, p := range patched {
		pages[p.phys&^4095] = true
	}
	out := writeThin(t, src, st.Size(), pages, patched)
	thin, err := readInside(out, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	if k, err = linux.Find(thin.mem, thin.roots()); err != nil {
		t.Fatal(err)
	}
	if got, want := describe(thin.look(k)), describe(s); got != want {
		t.Fatalf("the thinned dump tells\n%s\nwant\n%s", got, want)
	}
	packThin(t, out, to+".sparse.gz")
	for _, kind := range []string{"console", "facts", "kallsyms"} {
		b, err := os.ReadFile(filepath.Join(*thinInside, kind))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to+"."+kind, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
