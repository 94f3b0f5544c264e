package linux

import (
	"strconv"
	"strings"
)

// info is VMCOREINFO: the text after each key's equals sign.
type info map[string]string

// maxInfo bounds the lines of VMCOREINFO, whose text has a page in the kernel.
const maxInfo = 4096

func parseInfo(text string) info {
	m := info{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && len(m) < maxInfo {
			m[key] = value
		}
	}
	return m
}

// symbol returns the address that SYMBOL(name) states.
func (m info) symbol(name string) (uint64, bool) { return m.hex("SYMBOL(" + name + ")") }

// number returns what NUMBER(name) states, as a decimal number that can be
// negative (phys_base of a kernel whose image was moved up more in virtual than
// in physical memory).
func (m info) number(name string) (uint64, bool) {
	n, err := strconv.ParseInt(m["NUMBER("+name+")"], 10, 64)
	return uint64(n), err == nil
}

// hex returns the value of a key as a hexadecimal number.
func (m info) hex(key string) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimPrefix(m[key], "0x"), 16, 64)
	return n, err == nil
}

// decimal returns the value of a key, such as OFFSET(prb_desc.state_var), as a
// decimal number.
func (m info) decimal(key string) (uint64, bool) {
	n, err := strconv.ParseUint(m[key], 10, 64)
	return n, err == nil
}
