package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

const (
	// maxSearch bounds the peak memory of a search, in bytes.
	maxSearch = 64 << 20
	// What is searched in a kdump-compressed dump: 400 MiB, in runs of 1 MiB
	// (pages has runs of 256 pages) with holes of a quarter of that.
	searchPages, searchRun, searchHole = 100 << 10, 256, 64
)

// search looks for the note in the memory of a core, and changes nothing. It
// returns the CPU time.
func (b *bench) search(mode, core string) (time.Duration, error) {
	return b.reading(mode, maxSearch, "inject", "--search", "--dry-run", core)
}

// searchELF compares searching with cat, which reads the same bytes without
// looking at them. No block of the core is a hole, and the note is at the end
// of its memory.
func (b *bench) searchELF() error {
	const kernel = "deb-t1"
	core := b.path("dense")
	if _, err := b.exec("cp", b.path(kernel+thin), core); err != nil {
		return err
	}
	if err := fill(core, 1); err != nil {
		return err
	}
	if err := plant(core, filepath.Join(b.made, kernel+".blob")); err != nil {
		return err
	}
	cat := func() (time.Duration, error) { return cpu(b.command("cat", core)) }
	search := func() (time.Duration, error) { return b.search("--search, ELF", core) }
	r, err := pairs(b.runs, cat, search)
	if err != nil {
		return err
	}
	b.table.ratioAtLeast("CPU time of cat >/dev/null / --search, ELF", r, 0.4)
	if err := b.searchCold(core); err != nil {
		return err
	}
	return b.remove("dense")
}

// searchCold compares searching with cat while the core is not in the page
// cache. The disk decides the ratio, and what else uses it: there is no bound.
func (b *bench) searchCold(core string) error {
	cold := func(c *exec.Cmd) (time.Duration, error) {
		if err := forget(core); err != nil {
			return 0, err
		}
		return pipeline(c)
	}
	r, err := pairs(min(b.runs, 5),
		func() (time.Duration, error) { return cold(b.command("cat", core)) },
		func() (time.Duration, error) {
			return cold(b.command(filepath.Join(b.made, "vmcsnote"), "inject", "--search", "--dry-run", core))
		})
	if err != nil {
		return err
	}
	b.table.add("cat >/dev/null / --search, ELF, cold cache", r.String(), "", true)
	return nil
}

// forget takes a file out of the page cache.
func forget(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return errors.WithStack(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil { // what is not on the disk stays in the cache
		return errors.WithStack(err)
	}
	return errors.Wrap(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), path)
}

// searchSparse takes the CPU time of searching 64 GiB of holes, with the note
// where they end.
func (b *bench) searchSparse() error {
	const kernel = "deb-t1"
	core := b.path("sparse")
	if _, err := b.exec("cp", "--sparse=always", b.path(kernel+thin), core); err != nil {
		return err
	}
	if err := grow(core, largeSize); err != nil {
		return err
	}
	if err := plant(core, filepath.Join(b.made, kernel+".blob")); err != nil {
		return err
	}
	took := make([]float64, min(b.runs, 5))
	for i := range took {
		t, err := b.search("--search, sparse", core)
		if err != nil {
			return err
		}
		took[i] = t.Seconds()
	}
	b.table.atMost("CPU time of --search, 64 GiB of holes", ratioOf(took).median, 0.2, "%.2f s")
	return b.remove("sparse")
}

// besideInflating compares what measure does with the dump with a program that
// has the dump's pages in memory and inflates them.
func (b *bench) besideInflating(mode, dump string, measure func() (time.Duration, error), bound float64) error {
	inflate := func() (time.Duration, error) { return b.measures(filepath.Join(b.made, "pages"), "inflate", dump, "1") }
	r, err := pairs(min(b.runs, 7), inflate, measure)
	if err != nil {
		return err
	}
	b.table.ratioAtLeast("CPU time of inflating alone / "+mode, r, bound)
	return nil
}

// searchKDump compares searching a dump whose pages are compressed by that
// method with a program that has these pages in memory and inflates them, and
// with libkdumpfile, which reads them one by one.
func (b *bench) searchKDump(method string, bound, boundC float64) error {
	mode := "--search, " + method
	dump := b.path(method)
	if err := b.makeDump(method, searchPages, searchHole, method); err != nil {
		return err
	}
	search := func() (time.Duration, error) { return b.search(mode, dump) }
	if err := b.besideInflating(mode, dump, search, bound); err != nil {
		return err
	}

	name := "CPU time of libkdumpfile / " + mode
	python, found := b.drgn()
	if !found {
		b.table.skip(name, "drgn is not installed")
		return b.remove(method)
	}
	drgn := func() (time.Duration, error) { return b.measures(python, "-c", drgnReads, dump) }
	r, err := pairs(min(b.runs, 3), drgn, search)
	if err != nil {
		return err
	}
	b.table.ratioAtLeast(name, r, boundC)
	return b.remove(method)
}

// decompressors compares vmcsnote's decompressors with the best ones in C, on
// the pages of a real dump.
func (b *bench) decompressors() error {
	const rounds = "20"
	for _, c := range []struct {
		method, peer, used string
		bound              float64
	}{
		{"zlib", "libdeflate", "klauspost/compress/zlib", 0.35},
		{"lzo", "liblzo2", "vmcsnote's for LZO", 0.5},
		{"snappy", "libsnappy", "klauspost/compress/snappy", 0.8},
		{"zstd", "libzstd", "klauspost/compress/zstd", 0.5},
	} {
		name := fmt.Sprintf("CPU time of %s / %s, a real dump's pages", c.peer, c.used)
		inflate := filepath.Join(b.made, "inflate")
		if _, err := os.Stat(inflate); err != nil {
			b.table.skip(name, "no C compiler, or one of the libraries is missing")
			continue
		}
		dump := filepath.Join(b.made, "cloud-c1.kdump-"+c.method)
		peer := func() (time.Duration, error) { return b.measures(inflate, dump, rounds) }
		own := func() (time.Duration, error) {
			return b.measures(filepath.Join(b.made, "pages"), "inflate", dump, rounds)
		}
		r, err := pairs(b.runs, peer, own)
		if err != nil {
			return err
		}
		b.table.ratioAtLeast(name, r, c.bound)
	}
	return nil
}

// measures runs a command that prints the CPU time it took, without its start.
func (b *bench) measures(name string, args ...string) (time.Duration, error) {
	var out bytes.Buffer
	c := alone(b.command(name, args...))
	c.Stdout = &out
	if _, err := pipeline(c); err != nil {
		return 0, err
	}
	took, err := time.ParseDuration(strings.TrimSpace(out.String()))
	return took, errors.Wrap(err, name)
}

// drgnReads reads the pages of the dump that searchKDump made.
var drgnReads = fmt.Sprintf(`
import drgn, sys, time
program = drgn.Program()
program.set_core_dump(sys.argv[1])
start = time.process_time()
for i in range(0, %[1]d, %[2]d):
    program.read((i + i // %[2]d * %[3]d) * 4096, %[2]d * 4096, True)
print("%%fs" %% (time.process_time() - start))
`, searchPages, searchRun, searchHole)

// drgn returns a Python that has drgn, through which libkdumpfile reads.
func (b *bench) drgn() (python string, found bool) {
	// A python3 that comes first in PATH may lack what the distribution's has.
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if path, err := exec.LookPath(name); err == nil && b.command(path, "-c", "import drgn").Run() == nil {
			return path, true
		}
	}
	return "", false
}
