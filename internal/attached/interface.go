package attached

import "reflinksr/internal/fault"

// SMAPIv1 is the older of the toolstack's interfaces for storage, and the domain that has the disks which it gives to guests: it says
// of a disk only which host has it.
const SMAPIv1 = "smapiv1"

// MustBeBy is SR.MustBeBy of an SR, if that is attached.
func MustBeBy(by, uuid string) error {
	if before, err := Lookup(uuid); err == nil {
		return before.MustBeBy(by)
	}
	return nil
}

// MustBeBy refuses to attach by one interface what is attached by another: each of them would think that it alone knows who has
// which disk, and end what the other has. It is fault.ErrSRInUse.
func (a SR) MustBeBy(by string) error {
	if by == a.Interface {
		return nil
	}
	name := func(by string) string {
		if by == "" {
			return "SMAPIv3"
		}
		return "SMAPIv1"
	}
	return fault.Hint(fault.Errorf(fault.ErrSRInUse, a.Path, "SR %s is attached by %s on this host: it cannot be attached by %s as well", a.UUID, name(a.Interface), name(by)),
		"detach it there first")
}
