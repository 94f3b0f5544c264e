package linux

import "bytes"

// UTS is what uname(2) tells.
type UTS struct {
	Hostname string // nodename
	Release  string
	Version  string // which build
}

const (
	// utsField is the size of a field of struct new_utsname.
	utsField = 65
	// maxUTSOffset bounds where struct uts_namespace has it: at its start
	// since 5.11, after a reference count before.
	maxUTSOffset = 64
)

// UTS returns what the initial namespace's uname(2) tells. It needs no types:
// the system's name, which never changes, tells where the names are.
func (k *Kernel) UTS() (u UTS, err error) {
	at, err := k.Symbol("init_uts_ns")
	if err != nil {
		return u, err
	}
	b := make([]byte, maxUTSOffset+4*utsField)
	if _, err := k.Read(b, at); err != nil {
		return u, err
	}
	i := bytes.Index(b, []byte("Linux\x00"))
	if i < 0 || i > maxUTSOffset {
		return u, corrupt("init_uts_ns has no system name")
	}
	for n, to := range []*string{&u.Hostname, &u.Release, &u.Version} {
		f, _, _ := bytes.Cut(b[i+(n+1)*utsField:][:utsField], []byte{0})
		*to = string(f)
	}
	return u, nil
}
