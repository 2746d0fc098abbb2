package scripts

import (
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write README.md anew")

// README.md says what the verbs' table says.
func TestREADME(t *testing.T) {
	want := Reference()
	if *update {
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("README.md")
	if err != nil || string(got) != want {
		t.Errorf("README.md is stale (%v): go generate ./scripts", err)
	}
}
