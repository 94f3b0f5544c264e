package sysfs

import (
	"os"
	"strings"

	"github.com/pkg/errors"
)

const (
	procVmcore  = "/proc/vmcore"
	procCmdline = "/proc/cmdline"
	bootID      = "/proc/sys/kernel/random/boot_id"
	osrelease   = "/proc/sys/kernel/osrelease"
)

// InCapture reports whether this kernel was booted by kdump to save the dump of
// another one. What it publishes in /sys is then about itself, not about the
// kernel that crashed. Such a kernel was told where the dump's headers are, on
// its command line (elfcorehdr=) or in its device tree, and shows the dump as
// /proc/vmcore; either will do, since early in a capture initramfs the second
// may not be there yet. On an error the answer is not known.
func (fs FS) InCapture() (bool, error) {
	switch _, err := os.Stat(fs.path(procVmcore)); {
	case err == nil:
		return true, nil
	case !errors.Is(err, os.ErrNotExist):
		return false, err
	}
	cmdline, err := fs.read(procCmdline)
	if err != nil {
		return false, err
	}
	for word := range strings.FieldsSeq(cmdline) {
		if strings.HasPrefix(word, "elfcorehdr=") {
			return true, nil
		}
	}
	return false, nil
}

// BootID returns the random identity of this boot, a UUID in lower case
// (/proc/sys/kernel/random/boot_id).
func (fs FS) BootID() (string, error) {
	return fs.word(bootID)
}

// Release returns the kernel's release, as uname -r prints it
// (/proc/sys/kernel/osrelease).
func (fs FS) Release() (string, error) {
	return fs.word(osrelease)
}

// word reads a file that holds one word.
func (fs FS) word(name string) (string, error) {
	text, err := fs.read(name)
	if err != nil {
		return "", err
	}
	words := strings.Fields(text)
	if len(words) != 1 {
		return "", errors.Errorf("%s: found %.64q, expected one word", fs.path(name), text)
	}
	return words[0], nil
}
