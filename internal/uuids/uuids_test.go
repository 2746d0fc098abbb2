package uuids

import "testing"

func TestIsCanonical(t *testing.T) {
	const u = "365c68ee-966a-4644-880d-1122a36ab9a1"
	for s, want := range map[string]bool{
		u: true, "00000000-0000-0000-0000-000000000000": true, "": false, u[1:]: false, u + "0": false, "365C68EE-966A-4644-880D-1122A36AB9A1": false,
		"{" + u + "}": false, "urn:uuid:" + u: false, "365c68ee966a4644880d1122a36ab9a1": false, u[:35] + "g": false, u[:35] + "/": false, "../" + u[3:]: false,
	} {
		if IsCanonical(s) != want {
			t.Errorf("%q: not %v", s, want)
		}
	}
}
