package sysfs

import (
	"os"
	"strings"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// ErrNoPair says that the kernel publishes no such pair: the file does not
// exist, or is empty.
var ErrNoPair = errors.New("not published by this kernel")

const (
	vmcsinfo        = "/sys/kernel/vmcsinfo"
	vmcsinfoMaxSize = "/sys/kernel/vmcsinfo_maxsize"
)

// VMCSInfo returns the pair of the VMCSINFO buffer, in either of the forms that
// the kernel patches of 2012 gave it:
//
//   - v1 (April): /sys/kernel/vmcsinfo holds address and size, and the buffer
//     an ELF note;
//   - v2 (May): /sys/kernel/vmcsinfo holds the address,
//     /sys/kernel/vmcsinfo_maxsize the size, both hexadecimal, and the buffer
//     binary records.
//
// Where /sys/kernel/vmcsinfo does not exist or is empty the error is ErrNoPair.
// From v3 (June) on there is no buffer, but a directory with one file for each
// field, which is an error here. In a capture environment (InCapture) the pair
// is that of the wrong kernel.
func (fs FS) VMCSInfo() (Pair, error) {
	text, err := fs.readPair(vmcsinfo)
	if err != nil {
		return Pair{}, err
	}
	if len(strings.Fields(text)) != 1 {
		p, err := ParsePair(text)
		return p, errors.Wrap(err, fs.path(vmcsinfo))
	}
	size, err := fs.read(vmcsinfoMaxSize)
	if err != nil {
		return Pair{}, errors.Wrapf(err, "%s holds an address without a size", fs.path(vmcsinfo))
	}
	p, err := ParsePair(strings.TrimSpace(text) + " " + strings.TrimSpace(size))
	return p, errors.Wrapf(err, "%s with %s", fs.path(vmcsinfo), fs.path(vmcsinfoMaxSize))
}

// readPair reads the file of a pair; a missing or empty one is ErrNoPair.
func (fs FS) readPair(name string) (string, error) {
	text, err := fs.read(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", errors.Wrap(ErrNoPair, fs.path(name))
	case errors.Is(err, unix.EISDIR):
		return "", errors.Errorf("%s: expected an address and a size, found a directory", fs.path(name))
	case err == nil && strings.TrimSpace(text) == "":
		return "", errors.Wrapf(ErrNoPair, "%s is empty", fs.path(name))
	}
	return text, err
}
