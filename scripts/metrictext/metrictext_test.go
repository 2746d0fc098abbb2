package metrictext

import (
	"fmt"
	"testing"
)

func TestParse(t *testing.T) {
	const head = "# TYPE a gauge\n"
	for text, want := range map[string]string{
		"# EOF\n":                          "[]",
		head + "a 1\n# EOF\n":              "[a{} 1]",
		head + "a{} 1\n# EOF\n":            "[a{} 1]",
		head + "a{b=\"\"} -1.5e3\n# EOF\n": `[a{b=""} -1500]`,
		head + `a{c="x\n\"\\}{,=",b="y z"} 1` + "\n# EOF\n":                                                "[a{b=\"y z\",c=\"x\\n\"\\}{,=\"} 1]",
		"# TYPE a_bytes gauge\n# UNIT a_bytes bytes\n# HELP a_bytes what\\n\\\\ it is\na_bytes 1\n# EOF\n": "[a_bytes{} 1]",
		head + "# TYPE b gauge\nb 1\n# EOF\n":                                                              "[b{} 1]",
	} {
		if got, err := Parse(text); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "# EOF", head + "a 1\n", head + "a 1# EOF\n", head + "a 1\n# EOF\n\n", "a 1\n# EOF\n", head + "b 1\n# EOF\n", "# HELP a x\na 1\n# EOF\n", "\n# EOF\n",
		head + "a  1\n# EOF\n", head + "a 1 \n# EOF\n", head + "a x\n# EOF\n", head + "a 0x1\n# EOF\n", head + "a 1_0\n# EOF\n", head + "a\t1\n# EOF\n",
		head + "a{b=\"x\"b=\"y\"} 1\n# EOF\n", head + "a{b=\"x\",b=\"y\"} 1\n# EOF\n", head + "a{b=\"x\",} 1\n# EOF\n", head + "a{b=x} 1\n# EOF\n", head + "a{1b=\"x\"} 1\n# EOF\n",
		head + `a{b="\x"} 1` + "\n# EOF\n", head + "a{b=\"x} 1\n# EOF\n", head + "a{b=\"x\ny\"} 1\n# EOF\n", head + "a{b=\"\xff\"} 1\n# EOF\n", head + "a{b=\"x\"\n# EOF\n",
		head + "a 1\na 2\n# EOF\n", head + "a{b=\"x\",c=\"y\"} 1\na{c=\"y\",b=\"x\"} 2\n# EOF\n", head + head + "a 1\n# EOF\n", head + "a 1\n# HELP a x\n# EOF\n",
		head + "a 1\n# TYPE b gauge\nb 1\na{b=\"x\"} 1\n# EOF\n", head + "a 1\n# TYPE b gauge\nb 1\n" + head + "# EOF\n",
		"# TYPE a counter\na 1\n# EOF\n", "# TYPE a info\n# EOF\n", "# TYPE a gauge\n# UNIT a bytes\na 1\n# EOF\n", "# TYPE a gauge\n# HELP a \"x\"\na 1\n# EOF\n", "# TYPE a gauge\n# HELP a \\\"x\na 1\n# EOF\n", "# comment\n# EOF\n",
	} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
