package scripts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"reflinksr/internal/nbd"
	"reflinksr/internal/smapi"
	"reflinksr/scripts/tapdisk"
)

// nbdPatience is how long a server may take to answer.
const nbdPatience = time.Minute

// nbdPeer does what those do who move a disk: the toolstack's proxy, which connects to a server's socket and copies bytes, and tapdisk,
// which gets one end of a connection, the other end of which is handed to the plugin.
func (s *script) nbdPeer(not bool, args []string) error {
	if len(args) < 2 {
		return usage("nbd")
	}
	err := s.nbdDo(args[0], args[1], args[2:])
	if not && err == nil {
		return errors.New("that was done")
	}
	if not && !errors.Is(err, errUsage) {
		s.tell("%v", err)
		return nil
	}
	return err
}

var errUsage = errors.New("usage")

func (s *script) nbdDo(verb, name string, args []string) error {
	if verb == "connect" || verb == "receive" {
		if verb == "connect" && len(args) == 0 {
			args = []string{s.nbdAddress()}
		}
		if len(args) != 1 || s.peers[name] != nil {
			return errors.Join(errUsage, usage("nbd"))
		}
		c, err := map[string]func(string, string) (*nbd.Client, error){"connect": s.nbdConnect, "receive": nbdReceive}[verb](name, args[0])
		if err != nil {
			return err
		}
		if s.peers == nil {
			s.peers = map[string]*nbd.Client{}
		}
		s.peers[name] = c
		return nil
	}
	c := s.peers[name]
	if c == nil {
		return errors.Join(errUsage, fmt.Errorf("%s is not connected: %w", name, usage("nbd")))
	}
	switch verb {
	case "size":
		if len(args) != 1 || args[0] != fmt.Sprint(c.Size()) {
			return fmt.Errorf("the disk has %d bytes", c.Size())
		}
		return nil
	case "flush":
		return c.Flush()
	case "leave": // as an orderly client does
		delete(s.peers, name)
		return c.Close()
	case "ended": // by the server
		delete(s.peers, name)
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		select {
		case <-ended:
			return nil
		case <-time.After(nbdPatience):
			c.Close()
			return errors.New("the server has not ended the connection")
		}
	}
	if len(args) < 2 {
		return errors.Join(errUsage, usage("nbd"))
	}
	offset, length, err := parseRange(args[0], args[1])
	if err != nil {
		return err
	}
	switch {
	case verb == "zero" && len(args) == 2:
		return c.Zero(offset, length, nbd.ZeroHow{})
	case verb == "trim" && len(args) == 2:
		return c.Trim(offset, length)
	case verb == "write" && len(args) == 3:
		_, err := io.CopyN(io.NewOffsetWriter(c, offset), pattern(args[2]), length)
		return err
	}
	return errors.Join(errUsage, usage("nbd"))
}

// nbdAddress is that of the first Nbd implementation that the last answer has, as xapi takes it; "" if there is none.
func (s *script) nbdAddress() string {
	var b smapi.Backend
	text, err := json.Marshal(s.last)
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	if err == nil {
		for _, i := range b.Implementations {
			if i.Nbd != nil {
				return i.Nbd.URI
			}
		}
	}
	return ""
}

// nbdConnect connects to the server of an Nbd implementation, as xapi reads it, and sets NAME_SOCKET in capitals to its socket.
func (s *script) nbdConnect(name, address string) (*nbd.Client, error) {
	parts := strings.Split(address, ":")
	export, ok := "", false
	if len(parts) == 4 && parts[0] == "nbd" && parts[1] == "unix" {
		export, ok = strings.CutPrefix(parts[3], "exportname=")
	}
	if !ok {
		return nil, fmt.Errorf("%q is not nbd:unix:SOCKET:exportname=NAME", address)
	}
	s.setenv(strings.ToUpper(name)+"_SOCKET", parts[2])
	return nbd.Dial(context.Background(), "unix", parts[2], export, nbd.Options{Silence: nbdPatience})
}

func nbdReceive(_, socket string) (*nbd.Client, error) {
	return tapdisk.Connect(socket, nbd.Options{Silence: nbdPatience})
}
