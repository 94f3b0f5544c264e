// Package inside tells what a virtual machine of a crashed host was doing:
// which operating system ran in it, whether that panicked, and which task each
// vCPU was at.
//
// [Look] reads this from the guest's memory in the host's dump, where the
// guest's kernel describes itself (package linux). A dump without the guest's
// memory, such as makedumpfile -d 8 makes, tells nothing.
//
// A guest is hostile: Look bounds what it reads ([guest.Machine.Linux]), so
// that a machine takes half a second at most, whatever is in its memory. The
// guest chooses all text.
package inside

import (
	"time"

	"vmcsnote/guest"
	"vmcsnote/linux"
)

// A System is what runs in a machine.
type System struct {
	// OS is "Linux", "Windows" or, if it is neither or cannot be told, "". For
	// Windows only Release, Uptime and Time are set.
	OS string
	// Release is Linux's version as uname -r prints it, or Windows' version with
	// build and product, as far as it tells them: "10.0 build 20348, server".
	// Only Linux has a Hostname here.
	Release  string
	Hostname string
	// Uptime is how long the system has been up, sleep included, and Time the
	// time of day, by its own clock; zero if unknown.
	Uptime time.Duration
	Time   time.Time
	// Panic is what Linux said when it panicked; "" if it did not.
	Panic string
	// VCPUs is what each of the machine's vCPUs was doing, in their order.
	VCPUs []Activity
	// Kernel is the Linux kernel; nil if there is none.
	Kernel *linux.Kernel
	// Err is why the system, or a part of it, could not be told.
	Err error
}

// Booted returns when the system was booted, by its own clock; zero if that is
// unknown, or before 1970: then the clock or the uptime is wrong.
func (s *System) Booted() (t time.Time) {
	if at := s.Time.Add(-s.Uptime); s.Uptime > 0 && at.Unix() >= 0 {
		return at
	}
	return t
}

// An Activity is what a vCPU was doing.
type Activity struct {
	// Task is the name of the thread that the vCPU ran, PID its ID; 0 and
	// "swapper/N" for the idle task. HasTask is false if it is unknown.
	Task    string
	PID     int
	HasTask bool
	// Symbol is where RIP is: a symbol of the kernel with an offset, or for a
	// program in user mode the file that is mapped there. "" if it is unknown.
	Symbol string
	// Backtrace is the kernel's functions on the stack, the innermost first;
	// nil unless asked for, and in user mode.
	Backtrace []linux.Frame
}

// Options say what to look for.
type Options struct {
	// Backtrace asks for the backtraces of all vCPUs.
	Backtrace bool
	// Quick leaves out memory that cannot be found without going through all of
	// a machine's page tables ([guest.Machine.Quick]).
	Quick bool
}

// Look tells what runs in a machine, whose registers must have been found
// ([guest.Host.FindRegisters]). What it could not tell is empty, and Err why.
func Look(m *guest.Machine, o Options) *System {
	if o.Quick {
		m = m.Quick()
	}
	k, err := m.Linux()
	if err == nil {
		return Ask(k, m, o)
	}
	s := &System{VCPUs: make([]Activity, len(m.VCPUs))}
	if !s.lookWindows(m) {
		s.Err = err
	}
	return s
}
