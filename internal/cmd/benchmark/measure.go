package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// A ratio is the median of pairwise ratios of times, and the quartiles around
// it, which tell how noisy the machine was.
type ratio struct{ low, median, high float64 }

func (r ratio) String() string {
	return fmt.Sprintf("%.2f [%.2f, %.2f]", r.median, r.low, r.high)
}

// pairs runs a and b by turns n times, each first every other time, and returns
// the ratio of a's time to b's.
func pairs(n int, a, b func() (time.Duration, error)) (ratio, error) {
	ratios := make([]float64, n)
	for i := range ratios {
		var took [2]time.Duration
		for j := range took {
			which := (i + j) % 2
			var err error
			if took[which], err = [...]func() (time.Duration, error){a, b}[which](); err != nil {
				return ratio{}, err
			}
		}
		ratios[i] = float64(took[0]) / float64(took[1])
	}
	return ratioOf(ratios), nil
}

// ratioOf returns the quartiles of at least one ratio, which it sorts.
func ratioOf(ratios []float64) ratio {
	slices.Sort(ratios)
	n := len(ratios)
	return ratio{ratios[(n-1)/4], (ratios[(n-1)/2] + ratios[n/2]) / 2, ratios[n-1-(n-1)/4]}
}

// command is a command that ends with the benchmark.
func (b *bench) command(name string, args ...string) *exec.Cmd {
	return exec.CommandContext(b.ctx, name, args...)
}

func (b *bench) exec(name string, args ...string) (time.Duration, error) {
	return pipeline(b.command(name, args...))
}

// pipeline runs commands, each reading what the one before writes, and returns
// how long it took until all had ended.
func pipeline(cmds ...*exec.Cmd) (time.Duration, error) {
	var ends []*os.File
	for i, c := range cmds[1:] {
		r, w, err := os.Pipe()
		if err != nil {
			return 0, errors.WithStack(err)
		}
		cmds[i].Stdout, c.Stdin = w, r
		ends = append(ends, r, w)
	}
	messages := make([]bytes.Buffer, len(cmds))
	var failed error
	start := time.Now()
	for i, c := range cmds {
		c.Stderr = &messages[i]
		if failed = errors.WithStack(c.Start()); failed != nil {
			cmds = cmds[:i]
			break
		}
	}
	for _, f := range ends {
		f.Close()
	}
	for i, c := range cmds {
		if err := c.Wait(); err != nil && failed == nil {
			failed = errors.Wrapf(err, "%s: %s", filepath.Base(c.Path), complaint(messages[i].String()))
		}
	}
	return time.Since(start), failed
}

// cpu runs a command and returns the CPU time that it took. It does not
// depend on whether a second CPU is idle.
func cpu(c *exec.Cmd) (time.Duration, error) {
	_, err := pipeline(c)
	return sum([]*exec.Cmd{c}), err
}

// sum returns the CPU time that commands took which have ended.
func sum(cmds []*exec.Cmd) (total time.Duration) {
	for _, c := range cmds {
		if s := c.ProcessState; s != nil {
			total += s.UserTime() + s.SystemTime()
		}
	}
	return total
}

// alone makes a command use one CPU, if it is a Go program: the other side of
// the ratio has one thread, and two that share a core take more CPU time each.
func alone(c *exec.Cmd) *exec.Cmd {
	c.Env = append(os.Environ(), "GOMAXPROCS=1")
	return c
}

// reading runs vmcsnote on one CPU and returns the CPU time. The first time in
// a mode it also runs it on all CPUs, for its peak memory, which bound bounds.
func (b *bench) reading(mode string, bound int64, args ...string) (time.Duration, error) {
	tool := filepath.Join(b.made, "vmcsnote")
	if !slices.ContainsFunc(b.peaks, func(p peak) bool { return p.mode == mode }) {
		c := b.command(tool, args...)
		if _, err := pipeline(c); err != nil {
			return 0, err
		}
		b.peaks.note(mode, bound, c)
	}
	c := alone(b.command(tool, args...))
	took, err := cpu(c)
	b.peaks.note(mode, bound, c)
	return took, err
}

// complaint returns the line that says what failed.
func complaint(said string) string {
	if _, after, found := strings.Cut(said, "error: "); found {
		said = after
	}
	line, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
	return line
}

// tool is vmcsnote with the note of a kernel to be injected.
func (b *bench) tool(kernel, core string, args ...string) *exec.Cmd {
	blob := filepath.Join(b.made, kernel+".blob")
	return b.command(filepath.Join(b.made, "vmcsnote"), append([]string{"inject", "--blob", blob, core}, args...)...)
}

// inject injects, and notes the peak memory of that mode.
func (b *bench) inject(mode, kernel, core string, args ...string) (time.Duration, error) {
	c := b.tool(kernel, core, args...)
	took, err := pipeline(c)
	b.peaks.note(mode, maxPeak, c)
	return took, err
}

// stream passes a core through cat, vmcsnote and cat.
func (b *bench) stream(mode, kernel, core string) (time.Duration, error) {
	c := b.tool(kernel, "-", "-o", "-")
	took, err := pipeline(b.command("cat", core), c, b.command("cat"))
	b.peaks.note(mode, maxPeak, c)
	return took, err
}

// maxPeak bounds the peak memory of whatever does not search, in bytes.
const maxPeak = 20 << 20

// peaks is the peak memory of each mode that vmcsnote ran in.
type peaks []peak

// A peak is the peak memory of one mode, and its bound, in bytes.
type peak struct {
	mode       string
	rss, bound int64
}

func (p *peaks) note(mode string, bound int64, c *exec.Cmd) {
	if c.ProcessState == nil {
		return
	}
	i := slices.IndexFunc(*p, func(k peak) bool { return k.mode == mode })
	if i < 0 {
		i = len(*p)
		*p = append(*p, peak{mode, 0, bound})
	}
	(*p)[i].rss = max((*p)[i].rss, int64(c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)<<10)
}

func (p peaks) addTo(t *table) {
	for _, k := range p {
		t.atMost("peak memory, "+k.mode, float64(k.rss)/(1<<20), float64(k.bound>>20), "%.1f MiB")
	}
}

// sync writes everything back that the file system of dir has in memory, so
// that what is measured next does not pay for what came before.
func sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return errors.WithStack(err)
	}
	defer d.Close()
	return errors.Wrap(unix.Syncfs(int(d.Fd())), dir)
}
