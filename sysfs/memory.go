package sysfs

import (
	"strconv"
	"strings"

	"github.com/pkg/errors"
)

// MemAvailable returns how many bytes of memory programs may still take before
// the kernel has to kill one.
func (fs FS) MemAvailable() (int64, error) {
	const name = "/proc/meminfo"
	text, err := fs.read(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(line, "MemAvailable:")
		if !ok {
			continue
		}
		f := strings.Fields(value)
		if len(f) != 2 || f[1] != "kB" {
			break
		}
		n, err := strconv.ParseInt(f[0], 10, 53)
		if err != nil {
			break
		}
		return n << 10, nil
	}
	return 0, errors.Errorf("%s: no line \"MemAvailable: N kB\"", fs.path(name))
}
