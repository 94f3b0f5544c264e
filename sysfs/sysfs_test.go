package sysfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/errors"
	"golang.org/x/sys/unix"
)

// machine makes a root with the files given; a name that ends with a slash is a
// directory.
func machine(t *testing.T, files map[string]string) FS {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return New(root)
}

func TestVMCSInfo(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  Pair
		err   string
	}{
		{"v1", map[string]string{vmcsinfo: "1cba8c0 2000\n"}, Pair{0x1cba8c0, 0x2000}, ""},
		{"v1 beside a size file of something else", map[string]string{vmcsinfo: "1cba8c0 2000\n", vmcsinfoMaxSize: "3000\n"},
			Pair{0x1cba8c0, 0x2000}, ""},
		{"v2", map[string]string{vmcsinfo: "1cba8c0\n", vmcsinfoMaxSize: "1000\n"}, Pair{0x1cba8c0, 0x1000}, ""},
		{"v2 without size", map[string]string{vmcsinfo: "1cba8c0\n"}, Pair{}, "holds an address without a size"},
		{"v2 with a pair for a size", map[string]string{vmcsinfo: "1cba8c0\n", vmcsinfoMaxSize: "1000 2000\n"}, Pair{},
			"expected an address and a size"},
		{"v2 with an address of two lines", map[string]string{vmcsinfo: "1cba8c0\n2000\n"}, Pair{}, "on one line"},
		{"v3, a directory", map[string]string{vmcsinfo + "/": ""}, Pair{}, "found a directory"},
		{"vmcoreinfo only", map[string]string{"/sys/kernel/vmcoreinfo": "1000 1000\n"}, Pair{}, ErrNoPair.Error()},
		{"empty", map[string]string{vmcsinfo: ""}, Pair{}, "vmcsinfo is empty: " + ErrNoPair.Error()},
		{"a blank line", map[string]string{vmcsinfo: " \n"}, Pair{}, "vmcsinfo is empty: " + ErrNoPair.Error()},
		{"nothing allocated", map[string]string{vmcsinfo: "0 0\n"}, Pair{}, "size 0x0"},
		{"endless", map[string]string{vmcsinfo: strings.Repeat("0", maxFile+1)}, Pair{}, "more than 65536 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fs := machine(t, tt.files)
			got, err := fs.VMCSInfo()
			if got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			checkError(t, err, tt.err)
			if err != nil && !strings.Contains(err.Error(), fs.path(vmcsinfo)) {
				t.Errorf("error %q does not name the file", err)
			}
			if wantNone := strings.HasSuffix(tt.err, ErrNoPair.Error()); errors.Is(err, ErrNoPair) != wantNone {
				t.Errorf("errors.Is(%v, ErrNoPair) = %t", err, !wantNone)
			}
		})
	}
}

func TestReadDoesNotWait(t *testing.T) {
	fs := machine(t, map[string]string{"/sys/kernel/": ""})
	if err := unix.Mkfifo(fs.path(vmcsinfo), 0o600); err != nil {
		t.Skip("no FIFO here: ", err)
	}
	_, err := fs.VMCSInfo()
	checkError(t, err, "is empty")
}

func TestInCapture(t *testing.T) {
	const first = "BOOT_IMAGE=/vmlinuz crashkernel=160M quiet\n"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  bool
		err   string
	}{
		{"first kernel", map[string]string{procCmdline: first}, false, ""},
		{"/proc/vmcore", map[string]string{procCmdline: first, procVmcore: ""}, true, ""},
		{"/proc/vmcore, command line unreadable", map[string]string{procVmcore: ""}, true, ""},
		{"elfcorehdr=", map[string]string{procCmdline: "irqpoll reset_devices elfcorehdr=408948K\n"}, true, ""},
		{"elfcorehdr= within another word", map[string]string{procCmdline: "kit.note=elfcorehdr=1K noelfcorehdr=1\n"}, false, ""},
		{"no /proc", nil, false, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := machine(t, tt.files).InCapture()
			if got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
			checkError(t, err, tt.err)
		})
	}
}

func TestBootIDAndRelease(t *testing.T) {
	fs := machine(t, map[string]string{bootID: "5f0d4f0c-6f8e-4d0c-9f0e-0c6a51a3a8b1\n", osrelease: "6.1.0-56-amd64\n"})
	if got, err := fs.BootID(); got != "5f0d4f0c-6f8e-4d0c-9f0e-0c6a51a3a8b1" || err != nil {
		t.Errorf("BootID: got %q, %v", got, err)
	}
	if got, err := fs.Release(); got != "6.1.0-56-amd64" || err != nil {
		t.Errorf("Release: got %q, %v", got, err)
	}
	fs = machine(t, map[string]string{bootID: "\n"})
	_, err := fs.BootID()
	checkError(t, err, "expected one word")
	_, err = fs.Release()
	checkError(t, err, "no such file")
}
