package attached

import (
	"encoding/json"
	"testing"

	"reflinksr/internal/layout"
)

const aKey = "365c68ee-966a-4644-880d-1122a36ab9a1"

// What is noted of an attached SR is read as it was written, and its handle is one.
func FuzzAttachment(f *testing.F) {
	f.Add([]byte(`{"path":"/srv/x","uuid":"` + aKey + `","name":"n","description":""}`))
	f.Add([]byte(`{"path":"x/../..","uuid":"y","NAME":"\ud800"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseAttachment(data, aKey)
		if err != nil {
			return
		}
		path, uuid, err := layout.ParseHandle(a.Handle())
		if err != nil || path != a.Path || uuid != aKey {
			t.Errorf("%s is the handle %q, %v", data, a.Handle(), err)
		}
		out, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseAttachment(out, aKey); err != nil || again != a {
			t.Errorf("%+v became %+v, %v", a, again, err)
		}
	})
}
