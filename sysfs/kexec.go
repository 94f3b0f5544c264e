package sysfs

import (
	"errors"
	"os"
	"strings"
)

// crashLoaded are the files in which kernels publish whether kdump is armed:
// the first since 2.6.24, the second too from 2026 on.
var crashLoaded = [...]string{"/sys/kernel/kexec_crash_loaded", "/sys/kernel/kexec/crash_loaded"}

// CrashLoaded reports whether a capture kernel is loaded. A kernel built
// without kdump has no such file: os.ErrNotExist.
func (fs FS) CrashLoaded() (bool, error) {
	var first error
	for _, name := range crashLoaded {
		text, err := fs.read(name)
		if err == nil {
			return strings.TrimSpace(text) == "1", nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return false, first
}
