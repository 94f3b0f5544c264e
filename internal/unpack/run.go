package unpack

import (
	"io"
	"os/exec"

	"github.com/pkg/errors"
)

// NoProgram is the error for a program that is not installed.
type NoProgram struct{ Program string }

// Error names the program.
func (e NoProgram) Error() string { return e.Program + " is not installed" }

// Package is the package that has the program.
func (e NoProgram) Package() string {
	switch e.Program {
	case "xz":
		return "xz (xz-utils on Debian)"
	case "unsquashfs":
		return "squashfs-tools"
	case "fsck.erofs":
		return "erofs-utils"
	}
	return e.Program
}

// RunScript runs a shell script that unpacks what r holds and needs a program.
func RunScript(program, script string, r io.Reader) (io.ReadCloser, error) {
	c := exec.Command("/bin/sh", "-c", "command -v "+program+" >&2 || exit 127\n"+script)
	c.Stdin = r
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	return &process{out: out, command: c, program: program}, nil
}

// A process is a running command. Its output must be read to the end or closed;
// from then on the command no longer reads its input.
type process struct {
	out     io.ReadCloser
	command *exec.Cmd
	program string
	ended   bool
}

// Read reads the output. At its end it fails if the command has failed.
func (p *process) Read(b []byte) (int, error) {
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
		return n, NoProgram{p.program}
	case err != nil:
		return n, errors.Wrap(err, p.program+" has failed")
	}
	return n, io.EOF
}

// Close ends the command: nobody reads its output.
func (p *process) Close() error {
	if p.ended {
		return nil
	}
	p.ended = true
	err := p.out.Close()
	p.command.Wait() // it fails, having nobody to write to
	return err
}
