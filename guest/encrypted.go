package guest

import "github.com/pkg/errors"

// An Encryption is what encrypts a machine, with a key that only the processor
// has.
type Encryption string

const (
	// NotEncrypted means that the host can read all of the machine.
	NotEncrypted Encryption = ""
	// SEV encrypts memory, and leaves registers as they are.
	SEV Encryption = "SEV"
	// SEVES and SEVSNP encrypt the registers, too.
	SEVES  Encryption = "SEV-ES"
	SEVSNP Encryption = "SEV-SNP"
	// TDX is Intel's. It encrypts the VMCSs, too: KVM's structures have no
	// address of any.
	TDX Encryption = "TDX"
)

// String returns the name that AMD or Intel gave it; "" if nothing is
// encrypted.
func (e Encryption) String() string { return string(e) }

// ErrEncrypted means that the host cannot read a guest's memory. What can be
// read is ciphertext, but for pages that the guest shares with its host.
var ErrEncrypted = errors.New("the guest's memory is encrypted")

// AllowEncrypted lets [Machine.Memory] open memory that is encrypted: what is
// read of it is ciphertext, but for shared pages.
func (m *Machine) AllowEncrypted() { m.encrypted = true }
