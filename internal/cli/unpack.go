package cli

import (
	"io"
	"os/exec"
	"strings"

	"github.com/pkg/errors"
)

// unpackers are shell commands that unpack their standard input: compressions,
// by the names that initramfs.Unpack has for them, and images of file systems,
// by those that dracut has, whose files go out as a cpio archive. Who made an
// initramfs has these programs; the libraries for it would be a tenth of this one.
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
cd "$t/root" && find usr/*bin/vmcsnote* bin/vmcsnote* sbin/vmcsnote* usr/libexec/vmcsnote etc/kdump* etc/vmcsnote | cpio -o -H newc`

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
	c := exec.Command("/bin/sh", "-c", "command -v "+program+" >&2 || exit 127\n"+command)
	c.Stdin = r
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	return &unpacking{out: out, command: c, program: program}, nil
}

// An unpacking is a command that runs: its output, to be read to the end or
// closed. The command's input is the caller's again then.
type unpacking struct {
	out     io.ReadCloser
	command *exec.Cmd
	program string
	ended   bool
}

// Read reads the output. At its end it fails if the command has failed.
func (p *unpacking) Read(b []byte) (int, error) {
	if p.ended {
		return 0, io.EOF
	}
	n, err := p.out.Read(b)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	p.ended = true
	failed := (*exec.ExitError)(nil)
	switch err := p.command.Wait(); {
	case errors.As(err, &failed) && failed.ExitCode() == 127:
		return n, errNoProgram{p.program}
	case err != nil:
		return n, errors.Wrap(err, p.program+" has failed")
	}
	return n, io.EOF
}

// Close ends the command: nobody reads its output.
func (p *unpacking) Close() error {
	if p.ended {
		return nil
	}
	p.ended = true
	err := p.out.Close()
	p.command.Wait() // it fails, having nobody to write to
	return err
}
