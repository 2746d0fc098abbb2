package scripts

import (
	"encoding/json"
	"strings"
	"testing"
)

// What the verb volume asks for.
func TestNewVolume(t *testing.T) {
	for line, want := range map[string]string{
		"16MiB":                         `{"description":"","name":"disk","sharable":false,"size":16777216,"sr":"here"}`,
		"1000 name=odd sharable=true":   `{"description":"","name":"odd","sharable":true,"size":1000,"sr":"here"}`,
		"4KiB sr=there description=a=b": `{"description":"a=b","name":"disk","sharable":false,"size":4096,"sr":"there"}`,
		"0 name=":                       `{"description":"","name":"","sharable":false,"size":0,"sr":"here"}`,
	} {
		words := strings.Fields(line)
		request, err := newVolume("here", words[0], words[1:])
		got, _ := json.Marshal(request)
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", line, got, err, want)
		}
	}
	for _, bad := range []string{"much", "4096 sharable=maybe", "4096 size=5", "4096 odd", "4096 name", "4096 sr="} {
		words := strings.Fields(bad)
		if request, err := newVolume("here", words[0], words[1:]); err == nil {
			t.Errorf("%s: %v", bad, request)
		}
	}
	if request, err := newVolume("", "4096", nil); err == nil {
		t.Errorf("without an SR: %v", request)
	}
}
