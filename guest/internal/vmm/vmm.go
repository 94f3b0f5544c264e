// Package vmm finds a virtual machine's name in what the host knows of
// the process that runs it: its command line and its cgroup. It reads no
// memory.
package vmm

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A Process is one that runs a virtual machine. Its strings are chosen by its
// owner, and can hold any byte.
type Process struct {
	PID     int
	Comm    string
	Command []string // nil if it is unknown
	Cgroup  string
}

// Name returns the name of the machine: that in the command line, otherwise
// that in the cgroup, otherwise that of the socket by which the machine is
// controlled, otherwise the process's name and PID.
func (p Process) Name() string {
	kind := p.kind()
	return cmp.Or(p.option(kind.names), cgroupName(p.Cgroup), socketName(p.option(kind.sockets)),
		p.Comm+"["+strconv.Itoa(p.PID)+"]")
}

// UUID returns the machine's UUID by QEMU's -uuid, or "".
func (p Process) UUID() string { return p.option(p.kind().uuid) }

// A kind is a program that runs machines, and its options.
type kind struct {
	prefix  string // of the program's name
	names   []option
	sockets []option
	uuid    []option
}

// An option is an option of a command line. If key is not "", its value is a
// list of KEY=VALUE separated by commas; if plain is set, the first part may be
// a value without a key.
type option struct {
	flag, key string
	plain     bool
}

// kinds are the programs known. The last one is for all others: QEMU has many
// names.
var kinds = []kind{
	{prefix: "firecracker", names: []option{{flag: "--id"}}, sockets: []option{{flag: "--api-sock"}}},
	{prefix: "cloud-hyperviso", sockets: []option{{flag: "--api-socket", key: "path", plain: true}}}, // as comm cuts it
	{prefix: "crosvm", names: []option{{flag: "--name"}}, sockets: []option{{flag: "--socket"}, {flag: "-s"}}},
	{prefix: "lkvm", names: []option{{flag: "--name"}, {flag: "-n"}}},
	{
		names: []option{{flag: "-name", key: "guest", plain: true}, {flag: "--name", key: "guest", plain: true}},
		uuid:  []option{{flag: "-uuid"}, {flag: "--uuid"}},
	},
}

func (p Process) kind() kind {
	program := p.Comm
	if len(p.Command) > 0 {
		program = path.Base(p.Command[0])
	}
	return kinds[slices.IndexFunc(kinds, func(k kind) bool { return strings.HasPrefix(program, k.prefix) })]
}

// option returns the value of the first of options that the command line has
// and that is not empty.
func (p Process) option(options []option) string {
	for _, o := range options {
		for i, arg := range p.Command {
			value, ok := strings.CutPrefix(arg, o.flag+"=")
			if !ok && arg == o.flag && i > 0 && i+1 < len(p.Command) {
				value, ok = p.Command[i+1], true
			}
			if ok && o.key != "" {
				value = listed(value, o)
			}
			if ok && value != "" {
				return value
			}
		}
	}
	return ""
}

// listed returns the value of o's key in a list, in which a comma that is part
// of a value is written twice.
func listed(list string, o option) string {
	found := ""
	for i := 0; list != ""; i++ {
		var part strings.Builder
		for list != "" {
			piece, rest, more := strings.Cut(list, ",")
			part.WriteString(piece)
			if list = rest; !more || !strings.HasPrefix(rest, ",") {
				break
			}
			part.WriteByte(',')
			list = rest[1:]
		}
		key, value, ok := strings.Cut(part.String(), "=")
		switch {
		case ok && key == o.key:
			found = value // the last one counts
		case !ok && i == 0 && o.plain:
			found = part.String()
		}
	}
	return found
}

// cgroupName returns the name in a cgroup that libvirt or Proxmox made.
func cgroupName(cgroup string) string {
	parts := strings.Split(cgroup, "/")
	for i, part := range slices.Backward(parts) {
		name := unescape(part)
		if s, ok := cut(name, "machine-", ".scope"); ok { // by systemd
			_, s, _ = strings.Cut(s, "-") // the driver
			return withoutID(s)
		}
		if s, ok := strings.CutSuffix(name, ".libvirt-qemu"); ok { // by libvirt itself
			if rest, ok := strings.CutPrefix(s, "qemu-"); ok {
				s = withoutID(rest)
			}
			return s
		}
		if s, ok := strings.CutSuffix(name, ".scope"); ok && i > 0 && parts[i-1] == "qemu.slice" { // by Proxmox
			return s
		}
	}
	return ""
}

func cut(s, prefix, suffix string) (string, bool) {
	s, ok1 := strings.CutPrefix(s, prefix)
	s, ok2 := strings.CutSuffix(s, suffix)
	return s, ok1 && ok2
}

// withoutID removes libvirt's number of the machine, which its name follows
// since libvirt 1.3.
func withoutID(s string) string {
	if id, name, ok := strings.Cut(s, "-"); ok && name != "" {
		if _, err := strconv.ParseUint(id, 10, 32); err == nil {
			return name
		}
	}
	return s
}

// unescape replaces \xHH as systemd writes it in the names of units.
func unescape(s string) string {
	var b strings.Builder
	for s != "" {
		before, rest, ok := strings.Cut(s, `\x`)
		b.WriteString(before)
		if !ok {
			break
		}
		s = rest
		if len(rest) >= 2 {
			if c, err := strconv.ParseUint(rest[:2], 16, 8); err == nil {
				b.WriteByte(byte(c))
				s = rest[2:]
				continue
			}
		}
		b.WriteString(`\x`)
	}
	return b.String()
}

// socketName returns what a socket is called without its folder and ending.
func socketName(socket string) string {
	if socket == "" {
		return ""
	}
	name := path.Base(socket)
	return cmp.Or(strings.TrimSuffix(name, path.Ext(name)), name)
}
