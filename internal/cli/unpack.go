package cli

import (
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/pkg/errors"
)

// unpackers are shell commands that unpack their standard input: compressions,
// by the names that initramfs.Unpack has for them, and images of file systems,
// by those that dracut has, whose files go out as a cpio archive. Who made an
// initramfs has these programs, and the libraries for it would be a tenth of
// this one; so would package os/exec be a fiftieth.
const unpackers = `
gzip gzip -dc
zstd zstd -dc
xz xz -dc
lzma xz -dc
lz4 lz4 -dc
lzo lzop -dc
bzip2 bzip2 -dc
squash-root.img unsquashfs -n -no-xattrs -d "$t/root" "$t/image"
squashfs-root.img unsquashfs -n -no-xattrs -d "$t/root" "$t/image"
root.img unsquashfs -n -no-xattrs -d "$t/root" "$t/image"
erofs-root.img fsck.erofs --extract="$t/root" "$t/image"
`

// unpackFiles runs such a command for an image, with what of it matters here.
const unpackFiles = `t=$(mktemp -d) && trap 'rm -rf "$t"' EXIT && trap 'exit 1' HUP INT TERM && cat >"$t/image" && COMMAND >&2 &&
cd "$t/root" && find usr/*bin/vmcsnote* bin/vmcsnote* sbin/vmcsnote* usr/lib/vmcsnote etc/kdump* etc/vmcsnote | cpio -o -H newc`

// errNoProgram: a program that unpacks is not installed.
type errNoProgram struct{ program string }

func (e errNoProgram) Error() string { return e.program + " is not installed" }

// unpack gives what r holds, unpacked by another program. It implements
// initramfs.Unpack.
func unpack(format string, r io.Reader) (io.ReadCloser, error) {
	_, command, _ := strings.Cut(unpackers, "\n"+format+" ")
	command, _, _ = strings.Cut(command, "\n")
	program, _, _ := strings.Cut(command, " ")
	if strings.Contains(command, "$t") {
		command = strings.Replace(unpackFiles, "COMMAND", command, 1)
	}
	in, feed, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, w, err := os.Pipe()
	if err != nil {
		feed.Close()
		return nil, err
	}
	defer w.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err == nil {
		defer null.Close()
		p := &unpacking{out: out, feed: feed, fed: make(chan struct{}), program: program}
		p.pid, err = syscall.ForkExec("/bin/sh", []string{"sh", "-c", "command -v " + program + " >&2 || exit 127\n" + command},
			&syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{in.Fd(), w.Fd(), null.Fd()}})
		if err == nil {
			go p.run(r)
			return p, nil
		}
	}
	feed.Close()
	out.Close()
	return nil, err
}

// An unpacking is a command that runs: its output, to be read to the end or
// closed.
type unpacking struct {
	out, feed *os.File
	fed       chan struct{} // closed when it will take no more input
	program   string
	pid       int // 0 when it has ended
}

// run gives the command its input.
func (p *unpacking) run(r io.Reader) {
	io.Copy(p.feed, r) // what it does not take it does not need, or it fails
	p.feed.Close()
	close(p.fed)
}

// Read reads the output. At its end it fails if the command has failed.
func (p *unpacking) Read(b []byte) (int, error) {
	n, err := p.out.Read(b)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	switch status := p.wait(); {
	case status.Exited() && status.ExitStatus() == 127:
		return n, errNoProgram{p.program}
	case status != 0:
		return n, errors.Errorf("%s has failed, status %#x", p.program, int(status))
	}
	return n, io.EOF
}

// wait waits for the command's end, and for its input, which is the caller's
// again then.
func (p *unpacking) wait() (status syscall.WaitStatus) {
	if p.pid == 0 {
		return 0
	}
	<-p.fed
	for {
		if _, err := syscall.Wait4(p.pid, &status, 0, nil); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	p.pid = 0
	return status
}

// Close ends the command: nobody reads its output.
func (p *unpacking) Close() error {
	err := p.out.Close()
	p.wait()
	return err
}
