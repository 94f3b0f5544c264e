package cli

import (
	"bytes"
	"runtime"
	"sync"

	"github.com/spf13/pflag"

	"vmcsnote/internal/cli/internal/message"
)

// errSome means that some of several files or guests failed; each has its
// message.
type errSome struct{ status int }

func (errSome) Error() string { return "some files failed" }

// jobsFlag adds --jobs.
func jobsFlag(fs *pflag.FlagSet) *int {
	return fs.Int("jobs", runtime.GOMAXPROCS(0), "work on `N` files at a time")
}

// each does something for every file, up to jobs at a time. A file that fails
// does not stop the others. The messages of a file are printed together, and in
// the order of the files. With a single file, do is called directly.
func each[T any](e *env, paths []string, jobs int, do func(e *env, path string) (T, error)) ([]T, error) {
	if jobs < 1 {
		return nil, usagef("--jobs %d: expected at least 1", jobs)
	}
	if len(paths) == 1 {
		r, err := do(e, paths[0])
		return []T{r}, err
	}
	type outcome struct {
		result         T
		err            error
		stdout, stderr bytes.Buffer
		done           chan struct{}
	}
	all := make([]outcome, len(paths))
	slots := make(chan struct{}, jobs)
	var wg sync.WaitGroup
	for i := range all {
		all[i].done = make(chan struct{})
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots; close(all[i].done) }()
			o := &all[i]
			p := &message.Printer{Stdout: &o.stdout, Stderr: &o.stderr, Choose: e.Choose}
			own := &env{Printer: p, stdin: e.stdin, cmd: e.cmd, answered: e.answered, held: e.held}
			if o.result, o.err = do(own, paths[i]); o.err != nil {
				own.fail(o.err)
			}
		})
	}
	defer wg.Wait()
	results := make([]T, len(all))
	worst := exitDone
	for i := range all {
		o := &all[i]
		<-o.done
		e.Stderr.Write(o.stderr.Bytes())
		if _, err := e.Stdout.Write(o.stdout.Bytes()); err != nil {
			return nil, err
		}
		results[i] = o.result
		if s := status(o.err); s != exitDone && worst != exitFailed {
			worst = s
		}
	}
	if worst != exitDone {
		return results, errSome{worst}
	}
	return results, nil
}

// document returns what --json prints: the list of results, or a single result
// by itself.
func document[T any](results []T) any {
	if len(results) == 1 {
		return results[0]
	}
	return results
}
