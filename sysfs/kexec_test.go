package sysfs

import (
	"os"
	"testing"

	"github.com/pkg/errors"
)

func TestCrashLoaded(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  bool
		none  bool
	}{
		{"loaded", map[string]string{"/sys/kernel/kexec_crash_loaded": "1\n"}, true, false},
		{"not loaded", map[string]string{"/sys/kernel/kexec_crash_loaded": "0\n"}, false, false},
		{"where later kernels have it", map[string]string{"/sys/kernel/kexec/crash_loaded": "1\n"}, true, false},
		{"a kernel without kdump", map[string]string{"/sys/kernel/vmcoreinfo": "1000 1000\n"}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := machine(t, tt.files).CrashLoaded()
			if got != tt.want || errors.Is(err, os.ErrNotExist) != tt.none || err != nil && !tt.none {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}
