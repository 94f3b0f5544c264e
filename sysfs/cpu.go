package sysfs

import (
	"io"
	"os"
	"strings"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

const cpuinfo = "/proc/cpuinfo"

// CPUInfo returns what the kernel says of the first processor, by the names
// that /proc/cpuinfo has on its architecture.
func (fs FS) CPUInfo() (map[string]string, error) {
	path := fs.path(cpuinfo)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile)) // the file has all processors
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(string(b), "\n\n")
	info := map[string]string{}
	for line := range strings.Lines(first) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			info[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	if len(info) == 0 {
		return nil, errors.Errorf("%s: found no processor", path)
	}
	return info, nil
}

// NoVMX returns why the processor has no VMCS, or "" if it may have one: it is
// not Intel's or compatible with Intel's virtualisation, or VMX is not there.
func (fs FS) NoVMX() string {
	info, err := fs.CPUInfo()
	if err != nil {
		return ""
	}
	switch vendor := info["vendor_id"]; vendor {
	case "GenuineIntel", "CentaurHauls", "Shanghai": // the latter two are VIA's and Zhaoxin's
		// Linux takes vmx out of the flags where the firmware has disabled it.
		if flags, ok := info["flags"]; ok && !strings.Contains(" "+flags+" ", " vmx ") {
			return "the processor has no VMX, or the firmware has disabled it"
		}
		return ""
	case "":
		return "not an Intel processor"
	default:
		return "not an Intel processor (" + vendor + ")"
	}
}
