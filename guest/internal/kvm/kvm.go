// Package kvm reads KVM's own structures in a Linux kernel: its virtual
// machines, their virtual CPUs, memory slots and registers. Package linux finds
// the structures; package kvm knows what they mean.
//
// It works for kernels whose BTF has KVM's types: Linux 5.11 and later, and
// kernels in which KVM is built in. Before 5.11 modules have no BTF, but
// vmlinux's often has struct kvm and struct kvm_vcpu; then it reads everything
// but the structures of kvm_intel and kvm_amd.
package kvm

import (
	"iter"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/linux"
)

var (
	// ErrNoKVM means that KVM is not loaded.
	ErrNoKVM = errors.New("KVM is not loaded")
	// ErrNoTypes means that the kernel has no BTF that describes KVM.
	ErrNoTypes = errors.New("no BTF of KVM")
)

// A KVM is the hypervisor in a kernel.
type KVM struct {
	k      *linux.Kernel
	list   uint64 // vm_list
	kvm    scope
	fields fields
	bits   registerBits
	// vcpuSize is the size of struct kvm_vcpu.
	vcpuSize uint64
	// exitPoint is where KVM goes on after a VM exit (vmx_vmexit), sysenter the
	// kernel's entry for SYSENTER; 0 if unknown.
	exitPoint, sysenter uint64
	// budget is the number of machines, vCPUs, slots and threads that may
	// still be read: lists that share their entries multiply.
	budget int

	// Intel and AMD report which of the two runs the machines. VendorError is
	// why the structures of kvm_intel or kvm_amd cannot be read, if so.
	Intel, AMD  bool
	VendorError error
	processes   map[uint64]linux.Task // by their mm_struct, once they are needed
}

// A scope finds symbols and types: a module, or the kernel if KVM is built in.
type scope interface {
	Symbol(name string) (uint64, error)
	Struct(name string) (*linux.Struct, error)
	Enum(enum, name string) (uint64, error)
}

// Open finds KVM in a kernel. The error wraps [ErrNoKVM], [ErrNoTypes], or is
// what package linux could not read. What kvm_intel and kvm_amd add is not
// needed: without it, see VendorError.
func Open(k *linux.Kernel) (*KVM, error) {
	v := &KVM{k: k, budget: maxObjects}
	var err error
	if v.kvm, err = find(k, "kvm"); err != nil {
		return nil, err
	}
	if v.list, err = v.kvm.Symbol("vm_list"); errors.Is(err, linux.ErrNoSymbol) && v.kvm == scope(k) {
		return nil, ErrNoKVM // otherwise the kernel keeps no symbols of data
	} else if err != nil {
		return nil, err
	}
	for _, b := range v.fields.bindings() {
		if err := bind(v.kvm, b); err != nil {
			return nil, noTypes(err)
		}
	}
	if v.bits, err = readBits(v.kvm.Enum); err != nil {
		return nil, err
	}
	vcpu, err := v.kvm.Struct("kvm_vcpu")
	if err != nil {
		return nil, noTypes(err)
	}
	v.vcpuSize = vcpu.Size()
	v.VendorError = v.vendor()
	return v, nil
}

// maxObjects is enough for 10,000 machines of 16 vCPUs.
const maxObjects = 1 << 20

// spend takes one object off the budget.
func (v *KVM) spend() error {
	if v.budget == 0 {
		return errors.WithMessage(linux.ErrTooMany, "machines, vCPUs, memory slots and threads")
	}
	v.budget--
	return nil
}

// find returns the module of a name, or the kernel if there is none.
func find(k *linux.Kernel, name string) (scope, error) {
	m, err := k.Module(name)
	if m != nil {
		return m, nil
	}
	return k, err
}

// vendor binds the fields of the vendor's struct of a vCPU.
func (v *KVM) vendor() error {
	// A built-in KVM has the code of both vendors.
	intel, amd := true, true
	if v.kvm == scope(v.k) {
		function, err := v.creator()
		if err != nil && !errors.Is(err, ErrNoTypes) && !errors.Is(err, linux.ErrNoSymbol) {
			return err
		}
		intel, amd = vendorOf(function)
	}
	for _, side := range []struct {
		b    linux.Binding
		may  bool
		does *bool
	}{{v.fields.intel(), intel, &v.Intel}, {v.fields.amd(), amd, &v.AMD}} {
		m, err := find(v.k, side.b.Module)
		if err != nil {
			return err
		}
		if !side.may || m == scope(v.k) && v.kvm != m {
			continue
		}
		*side.does = true
		if err = noTypes(bind(m, side.b)); err != nil && !errors.Is(err, ErrNoTypes) {
			return err
		}
		if side.does == &v.Intel && err == nil {
			if err := bind(m, v.fields.ofVMCS()); err != nil {
				return err
			}
			v.exitPoint, _ = m.Symbol("vmx_vmexit")
			v.sysenter, _ = v.k.Symbol("entry_SYSENTER_compat") // there is none without 32-bit programs
		}
		if side.does == &v.AMD && err == nil {
			// Whether a machine uses SEV-SNP; most do not.
			if err := noTypes(bind(m, v.fields.ofMachine())); err != nil && !errors.Is(err, ErrNoTypes) {
				return err
			}
		}
	}
	return nil
}

// creator returns the name of the function that makes vCPUs, which the vendor
// that the processor needs has put into kvm_x86_ops.
func (v *KVM) creator() (string, error) {
	if err := bind(v.kvm, v.fields.builtIn()); err != nil {
		return "", noTypes(err)
	}
	ops, err := v.kvm.Symbol("kvm_x86_ops")
	if err != nil {
		return "", err
	}
	create, err := v.k.Value(ops, v.fields.ops.Create)
	if err != nil {
		return "", err
	}
	function, err := v.k.SymbolAt(create)
	return function.Name, err
}

// vendorOf returns which vendor a function belongs to. Since Linux 6.16 Intel's
// functions begin with vt_ in kernels with TDX.
func vendorOf(function string) (intel, amd bool) {
	return strings.HasPrefix(function, "vmx_") || strings.HasPrefix(function, "vt_"), strings.HasPrefix(function, "svm_")
}

// noTypes turns the error of a missing type into one that wraps [ErrNoTypes].
func noTypes(err error) error {
	var none *linux.TypeError
	if errors.Is(err, linux.ErrNoBTF) || errors.As(err, &none) {
		return errors.WithMessage(ErrNoTypes, err.Error())
	}
	return err
}

// Machines returns all virtual machines, the newest first, as KVM has them.
func (v *KVM) Machines() iter.Seq2[*Machine, error] {
	return func(yield func(*Machine, error) bool) {
		for addr, err := range v.k.List(v.list, v.fields.machine.List) {
			m := &Machine{v: v, Addr: addr}
			if err == nil {
				err = m.read()
			}
			spent := v.spend()
			if spent != nil {
				err = spent
			}
			if !yield(m, err) || spent != nil {
				return
			}
		}
	}
}
