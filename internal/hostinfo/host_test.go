package hostinfo

import "testing"

// The toolstack's UUID counts, else the machine's, else nothing but the boot.
func TestIdentified(t *testing.T) {
	const installation, machine = "4e1d8c5a-3f0b-4a93-8f0e-1a2b3c4d5e6f", "0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		why                string
		inventory, machine []byte
		want               string
		fails              bool
	}{
		{"a host of the toolstack", []byte("PRODUCT_BRAND='XCP-ng'\nINSTALLATION_UUID='" + installation + "'\n"), []byte(machine), installation, false},
		{"without quotes, in capitals", []byte(" INSTALLATION_UUID=4E1D8C5A-3F0B-4A93-8F0E-1A2B3C4D5E6F"), nil, installation, false},
		{"an inventory that does not tell", []byte("PRODUCT_BRAND='XCP-ng'\n"), []byte(machine), "", true},
		{"an inventory that tells nonsense", []byte("INSTALLATION_UUID='x'\n"), []byte(machine), "", true},
		{"an empty inventory", []byte{}, []byte(machine), "", true},
		{"another machine", nil, []byte(machine + "\n"), "01234567-89ab-cdef-0123-456789abcdef", false},
		{"no machine-id", nil, nil, "b", false},
		{"one that is not made yet", nil, []byte("uninitialized\n"), "b", false},
	} {
		h, err := identified([]byte("b\n"), c.inventory, c.machine)
		if (err != nil) != c.fails || h.UUID != c.want || h.Boot != "b" || h.Nameless() != (c.want == "b") {
			t.Errorf("%s: %+v, %v", c.why, h, err)
		}
	}
}
