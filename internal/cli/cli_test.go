package cli_test

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pkg/errors"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"vmcsnote/elfnote"
	"vmcsnote/internal/cli"
	"vmcsnote/internal/coretext"
	"vmcsnote/internal/sparse"
	"vmcsnote/internal/testcores"
	"vmcsnote/record"
	"vmcsnote/sysfs"
)

func TestMain(m *testing.M) {
	testcores.InMemory()
	testscript.Main(m, map[string]func(){"vmcsnote": func() { os.Exit(cli.Main(os.Args[1:])) }})
}

// TestScripts runs the command line as people and kdump scripts do. Each script
// in testdata/script is named by what it shows; go test -update writes the
// expected output in them anew.
//
// Besides testscript's own commands a script has vmcsnote, and
//
//	core NAME FILE            makes FILE that core of testdata/cores; NAME.blob is there too
//	initrd DIR FILE           makes FILE an initramfs of what is in DIR
//	build TEXT FILE           makes FILE the core that the text in the file TEXT describes (internal/coretext)
//	pair NAME                 sets PAIR to what /sys/kernel/vmcsinfo said in that core's kernel
//	record FILE RELEASE PAIR [BLOB]
//	                          makes FILE a record, with the note of the file BLOB in it
//	[!] same A B              compares two files whole, sparse or not
//	untouched STATUS ARGS     vmcsnote ARGS must exit with STATUS and leave everything in $WORK as it was
//	refused NAME PATTERN      every command must refuse that core, from a file or a stream, with an error that matches
//	                          PATTERN, as untouched 1
//	interrupt SIGNAL FILE N ARGS
//	                          vmcsnote ARGS, with the first N bytes of FILE on a standard input that then stalls and a
//	                          standard output that nobody reads, must end at SIGNAL as untouched 1
//	host NAME FILE            makes FILE that dump of a KVM host, of testdata/cores/vmx or testdata/cores/linux-guest
//	forge FILE ADDR TEXT [NAME]
//	                          writes a VMCSINFO note with that file's text to that dump's memory
//	zeros FILE ADDR           clears a page of that dump's memory
//	kcore DUMP FILE writes the memory of a dump as /proc/kcore shows it
//	rewrite FILE OLD NEW replaces text in the memory of a dump
//	oldlog FILE               makes FILE a core of a kernel whose log is in the buffer of Linux 3.5 to 5.9
//	windows FILE GUEST        makes a Windows of that guest in the dump
//	setvmcb FILE GUEST NAME=VALUE... sets fields of the VMCBs of that guest in the dump
//	setvmcs FILE VPID NAME=VALUE...  sets fields of the VMCS with that VPID in the dump
//	image FORM DUMP FILE      makes FILE an image of the dump's memory: lime, avml or raw; or bare, a core without its PT_NOTE
//	nonote FILE [ID]          takes VMCSINFO out of that dump's memory, and gives the VMCSs another revision identifier
//	nest FILE                 gives guest 1 of the host hsw-default a guest of its own
//	kdump CORE FILE [filtered]
//	                          makes FILE a kdump-compressed dump of the core's memory, without that of processes
//	flatten DUMP FILE         makes FILE the flattened form of a dump
//	process HOST N FILE [lean|bare]
//	                          makes FILE a core of the process that ran guest N; lean: without pages of files, bare: without
//	                          the guest's memory, too
//	fields FILE NAME          compares guests --json with the host's check.json, all fields of all VMCSs
//	everyname FILE            asks guests --field for every name that guests -v and --json print of that dump
//	truth FILE NAME           compares its registers with the Linux guest's truth.txt
//	pages CORE NAME           compares a guest's core with the hashes in expected-thin.json
//	midway SIGNAL CORE ARGS   vmcsnote ARGS, at SIGNAL when CORE has begun to grow, must end as untouched 1, or go through
//
// and the conditions mount (file systems can be mounted, in a namespace of
// their own), blockdev (a node of a block device can be made), and race (the
// race detector watches). A script stops at [race] if others run its code under
// the race detector, too: there a command takes ten times as long.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		RequireUniqueNames: true,
		UpdateScripts:      testcores.Update(),
		Condition:          condition,
		Setup: func(env *testscript.Env) error {
			env.Values[tbKey{}] = env.T()
			env.Values[stateKey{}] = state{}
			dir, err := testcores.Dir()
			if err != nil {
				return err
			}
			env.Vars = append(env.Vars, fastExit, "README="+filepath.Join(dir, "..", "..", "README.md"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"build":     build,
			"core":      core,
			"kcore":     kcore,
			"rewrite":   rewrite,
			"everyname": everyName,
			"enospc":    enospc,
			"fields":    fields,
			"flatten":   flatten,
			"forge":     forge,
			"host":      host,
			"image":     image,
			"initrd":    initrd,
			"interrupt": interrupt,
			"kdump":     kdump,
			"midway":    midway,
			"nest":      nest,
			"nonote":    nonote,
			"setvmcb":   setvmcb,
			"setvmcs":   setvmcs,
			"split":     split,
			"oldlog":    oldlog,
			"pages":     pages,
			"pair":      pair,
			"process":   process,
			"record":    makeRecord,
			"refused":   refused,
			"same":      same,
			"truth":     truth,
			"untouched": untouched,
			"windows":   windows,
			"zeros":     zeros,
		},
	})
}

// underRace is set if this program was built with -race.
var underRace bool

// fastExit keeps go test -race from making every vmcsnote wait for a second
// before it exits.
const fastExit = "GORACE=atexit_sleep_ms=0"

type tbKey struct{}

func tb(ts *testscript.TestScript) testing.TB { return ts.Value(tbKey{}).(testing.TB) }

func condition(cond string) (bool, error) {
	switch cond {
	case "blockdev":
		dir, err := os.MkdirTemp("", "vmcsnote-test")
		if err != nil {
			return false, err
		}
		defer os.RemoveAll(dir)
		return unix.Mknod(filepath.Join(dir, "node"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 255))) == nil, nil
	case "race":
		return underRace, nil
	case "mount":
	default:
		return false, errors.Errorf("unknown condition %q", cond)
	}
	return exec.Command("unshare", "-rm", "mount", "-t", "tmpfs", "none", "/tmp").Run() == nil, nil
}

// usage ends the script unless there are from least to most arguments.
func usage(ts *testscript.TestScript, neg bool, args []string, least, most int) {
	if neg || len(args) < least || len(args) > most {
		ts.Fatalf("usage: see TestScripts")
	}
}

func core(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2)
	expand(ts, testcores.Image(tb(ts), args[0]), args[1])
}

func build(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2)
	b, err := coretext.Build([]byte(ts.ReadFile(args[0])))
	ts.Check(err)
	im, err := sparse.New(b)
	ts.Check(err)
	expand(ts, im, args[1])
}

func expand(ts *testscript.TestScript, im *sparse.Image, file string) {
	f, err := os.Create(ts.MkAbs(file))
	ts.Check(err)
	defer f.Close()
	ts.Check(im.Expand(f))
}

func pair(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, 1)
	ts.Setenv("PAIR", strings.TrimSpace(testcores.Pair(tb(ts), args[0])))
}

func makeRecord(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, 4)
	p, err := sysfs.ParsePair(args[2])
	ts.Check(err)
	r := record.Record{
		Pair: p, Release: args[1], BootID: "5f0d4f0c-6f8e-4d0c-9f0e-0c6a51a3a8b1",
		Time: time.Date(2026, 11, 23, 4, 35, 0, 0, time.UTC),
	}
	if len(args) == 4 {
		n, err := elfnote.FromBlob([]byte(ts.ReadFile(args[3])), elfnote.VMCSInfo, 0, binary.LittleEndian)
		ts.Check(err)
		r.Note = n.Encode(binary.LittleEndian)
	}
	ts.Check(record.WriteFile(ts.MkAbs(args[0]), r, false))
}

func same(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, false, args, 2, 2)
	d := sparse.Diff(scan(ts, ts.MkAbs(args[0])), scan(ts, ts.MkAbs(args[1])))
	switch {
	case neg && d == nil:
		ts.Fatalf("%s and %s do not differ", args[0], args[1])
	case !neg && d != nil:
		ts.Fatalf("%s is not %s: %v", args[0], args[1], d)
	}
}

func scan(ts *testscript.TestScript, path string) *sparse.Image {
	f, err := os.Open(path)
	ts.Check(err)
	defer f.Close()
	im, err := sparse.Scan(f)
	ts.Check(err)
	return im
}

// A state is all there is in $WORK, by path.
type state map[string]file

type file struct {
	info  fs.FileInfo
	link  string
	image *sparse.Image // of a regular file, else nil
	// A later write to it gives it other times, however coarse the system's
	// are.
	settled bool
}

// stateKey is where a script keeps the last state that it took, so that a file
// that nobody has touched since is not read once more.
type stateKey struct{}

func stateOf(ts *testscript.TestScript) state {
	s, last := state{}, ts.Value(stateKey{}).(state)
	walk(ts, func(path string, f file) {
		switch was := last[path]; {
		case !f.info.Mode().IsRegular():
		case was.settled && unwritten(was.info, f.info):
			f.image, f.settled = was.image, true
		default:
			f.settled = time.Since(time.Unix(f.info.Sys().(*syscall.Stat_t).Ctim.Unix())) > time.Second/10
			f.image = scan(ts, path)
		}
		s[path] = f
	})
	clear(last)
	maps.Copy(last, s)
	return s
}

// walk calls do for all there is in $WORK.
func walk(ts *testscript.TestScript, do func(path string, f file)) {
	ts.Check(filepath.WalkDir(ts.Getenv("WORK"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f := file{}
		if f.info, err = d.Info(); err != nil {
			return err
		}
		if d.Type() == fs.ModeSymlink {
			f.link, err = os.Readlink(path)
		}
		do(path, f)
		return err
	}))
}

// unwritten reports whether a file is the one that was there, and nobody has
// written to it.
func unwritten(was, now fs.FileInfo) bool {
	a, b := was.Sys().(*syscall.Stat_t), now.Sys().(*syscall.Stat_t)
	return os.SameFile(was, now) && was.Size() == now.Size() && a.Mtim == b.Mtim && a.Ctim == b.Ctim
}

// check ends the script if anything in $WORK is not as it was. It reads every
// file whose times do not show already that nobody wrote to it.
func (was state) check(ts *testscript.TestScript) {
	left := maps.Clone(was)
	walk(ts, func(path string, g file) {
		f, ok := was[path]
		if !ok {
			ts.Fatalf("%s was left behind", path)
		}
		delete(left, path)
		if f.info.Mode() != g.info.Mode() || f.link != g.link {
			ts.Fatalf("%s has changed from %v %s to %v %s", path, f.info.Mode(), f.link, g.info.Mode(), g.link)
		}
		if f.image == nil || f.settled && unwritten(f.info, g.info) {
			return
		}
		r, err := os.Open(path)
		ts.Check(err)
		defer r.Close()
		d, err := sparse.DiffFile(r, f.image)
		ts.Check(err)
		if d != nil {
			ts.Fatalf("%s has changed: %v", path, d)
		}
	})
	for _, path := range slices.Sorted(maps.Keys(left)) {
		ts.Fatalf("%s is gone", path)
	}
}

func untouched(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, 99)
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	was := stateOf(ts)
	checkStatus(ts, ts.Exec("vmcsnote", args[1:]...), want)
	checkMessages(ts, ts.ReadFile("stderr"), want != 0 && !(args[1] == "verify" && want != 2))
	was.check(ts)
}

// checkStatus ends the script unless err, of an exec.Cmd, is that of an exit
// with status want.
func checkStatus(ts *testscript.TestScript, err error, want int) {
	got := 0
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d (%v)", got, want, err)
	}
}

// checkMessages ends the script unless what was said to a person keeps the
// rules of messages.go.
func checkMessages(ts *testscript.TestScript, text string, failed bool) {
	failures := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		said, ok := strings.CutPrefix(line, "vmcsnote: ")
		if !ok || strings.HasSuffix(line, ".") || strings.Contains(line, "%!") {
			ts.Fatalf("found %q, expected a message that begins with vmcsnote: and has no full stop", line)
		}
		if said, ok = strings.CutPrefix(said, "error: "); ok {
			failures++
		}
		parts := strings.Split(said, ": ")
		if n := len(slices.Compact(slices.Clone(parts))); n < len(parts) {
			ts.Fatalf("%q says the same thing twice", line)
		}
	}
	if want := map[bool]int{true: 1}[failed]; failures != want {
		ts.Fatalf("found %d errors on standard error, expected %d", failures, want)
	}
}

func refused(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2)
	expand(ts, testcores.Image(tb(ts), "deb-t1.blob"), "blob")
	expand(ts, testcores.Image(tb(ts), args[0]), "vmcore")
	defer os.Remove(ts.MkAbs("vmcore"))
	was := stateOf(ts)
	fromFile, fromStream := "vmcore: "+args[1], "standard input: "+args[1]
	for _, c := range []struct{ line, pattern string }{
		{"inject --blob blob vmcore", fromFile},
		{"inject --blob blob -o out vmcore", fromFile},
		{"inject --blob blob -o - vmcore", fromFile},
		{"inject --blob blob -n vmcore", fromFile},
		{"remove vmcore", fromFile},
		{"remove -o out vmcore", fromFile},
		{"inject --blob blob -o out -", fromStream},
		{"inject --blob blob -o - -", fromStream},
		{"remove -o - -", fromStream},
	} {
		ts.Logf("[%s]", c.line)
		cmd, stdout, stderr := command(ts, strings.Fields(c.line))
		in, err := os.Open(ts.MkAbs("vmcore"))
		ts.Check(err)
		cmd.Stdin, cmd.Stdout = in, stdout
		err = cmd.Run()
		in.Close()
		ts.Logf("%s%s", stdout, stderr)
		checkStatus(ts, err, 1)
		checkMessages(ts, stderr.String(), true)
		said, kept := strings.CutSuffix(strings.SplitN(stderr.String(), "\n", 2)[0], "; out holds the input, unchanged") // of a stream that was cut
		if !regexp.MustCompile(`(?m)^vmcsnote: error: ` + c.pattern).MatchString(said) {
			ts.Fatalf("no match for %q", c.pattern)
		}
		if stdout.Len() > 0 {
			ts.Fatalf("something was written to standard output")
		}
		if kept {
			if ts.ReadFile("out") != ts.ReadFile("vmcore") {
				ts.Fatalf("out is not what came")
			}
			ts.Check(os.Remove(ts.MkAbs("out")))
		}
		was.check(ts)
	}
}

// command prepares to run vmcsnote.
func command(ts *testscript.TestScript, args []string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	cmd = exec.Command("vmcsnote", args...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), fastExit)
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stderr = stderr
	return cmd, stdout, stderr
}
