package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"reflinksr/cmd/internal/version"
)

// session is what holds for one run of srctl, whatever the command.
type session struct {
	json     bool     // answers are for programs
	exact    bool     // sizes are told in bytes
	yes      bool     // what cannot be undone is wanted
	sort     string   // by which column
	filters  []string // which rows
	out      *output  // standard output
	shortest int      // so much of keys is shown
	path     string   // of the SR that was asked for, "" until it is known
}

// The groups of commands, in the order of the help.
const (
	looking  = "looking"
	changing = "changing"
	moving   = "moving"
	using    = "using"
	keeping  = "keeping"
	telling  = "telling"
)

// root is the tree of all commands. Help, completion and manual pages are made of it.
func (s *session) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "srctl COMMAND [ARGUMENT]...",
		Short: "look at storage repositories and their volumes, and work on them",
		Long: `srctl is the operator's tool for reflinksr's storage repositories (SRs) on
this host: it looks at them and their volumes, takes snapshots, copies disks
out, checks and repairs.

An SR is called by a path to its directory, its UUID, its name, or where its
filesystem is mounted, and must be attached (but for check, which looks at both,
and rehome, which wants it detached). A volume is called by its key, the
beginning of that (four characters at least), or its name, which means the disk
where its snapshots have the same. What may mean several is refused, and they are
listed.

Before what cannot be undone it asks; where there is no terminal, it refuses
unless --yes is said.

Data and answers go to standard output, everything else to standard error. The
exit status is 0 when all went well, 1 when something failed, 2 for arguments
that make no sense; check has 3 for what could not be checked, and migrate for a
disk that is in use still.`,
		Example: `  srctl ls
  srctl ls tank
  srctl snapshot tank web
  srctl snapshot --help`,
		Args:        unknown,
		RunE:        incomplete,
		Annotations: map[string]string{"family": "yes"},
	}
	root.AddGroup(&cobra.Group{ID: looking, Title: "Look at SRs and volumes:"}, &cobra.Group{ID: changing, Title: "Change volumes:"},
		&cobra.Group{ID: moving, Title: "Back up and copy disks:"}, &cobra.Group{ID: using, Title: "Use disks on this host:"}, &cobra.Group{ID: keeping, Title: "Keep an SR in order:"}, &cobra.Group{ID: telling, Title: "About srctl:"})
	for _, g := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{looking, []*cobra.Command{s.ls(), s.show(), s.tree(), s.du(), s.changed(), s.checksum(), s.watch(), s.metrics()}},
		{changing, []*cobra.Command{s.create(), s.snapshot(), s.clone(), s.revert(), s.rename(), s.describe(), s.resize(), s.cbt(), s.dataDestroy(), s.destroy(), s.compact()}},
		{moving, []*cobra.Command{s.backup(), s.backups(), s.restore(), s.copy(), s.migrate(), s.importing(), s.convert(), s.export(), s.delta()}},
		{using, []*cobra.Command{s.attach(), s.detach(), s.mount(), s.umount()}},
		{keeping, []*cobra.Command{s.srs(), s.check(), s.doctor(), s.support(), s.lease(), s.rehome()}},
		{telling, []*cobra.Command{s.demo(), s.version(), s.help(), s.completion(), s.man()}},
	} {
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
			if c.Name() == "help" {
				root.SetHelpCommand(c)
			}
		}
	}
	root.PersistentFlags().BoolVar(&s.json, "json", false, "answer for programs, in JSON")
	root.PersistentFlags().BoolVar(&s.exact, "bytes", false, "tell sizes exactly, in bytes")
	root.PersistentFlags().BoolVarP(&s.yes, "yes", "y", false, "do not ask before what cannot be undone")
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if s.json && c.Annotations["json"] == "" {
			return misused("it has no answer in JSON")
		}
		return nil
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.DisableFlagsInUseLine = true
	finish(root)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.DisableAutoGenTag = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err.Error()} })
	root.SetUsageTemplate(strings.NewReplacer(
		".FlagUsages ", ".FlagUsagesWrapped 79 ",
		"{{if .Runnable}}", "{{if and .Runnable (not .Annotations.family)}}", // a command has to follow
		"[command]", "COMMAND",
	).Replace(root.UsageTemplate()))
	return root
}

// finish makes lines of 79 characters of what is told about a command, and about those below it, and has them ready to be
// asked for help before their name.
func finish(c *cobra.Command) {
	c.InitDefaultHelpFlag()
	var filled []string
	for _, paragraph := range strings.Split(c.Long, "\n\n") {
		line := ""
		for _, word := range strings.Fields(paragraph) {
			if line != "" && len(line)+1+len(word) > 79 {
				filled, line = append(filled, line), ""
			}
			line = strings.TrimPrefix(line+" "+word, " ")
		}
		filled = append(filled, line, "")
	}
	c.Long = strings.Join(filled[:len(filled)-1], "\n")
	for _, sub := range c.Commands() {
		finish(sub)
	}
}

// command makes one of what it is called with its arguments, a line about it, more about it, examples, and what it does. It
// wants so many arguments.
func command(use, short, long, example string, least, most int, run func(ctx context.Context, args []string) error) *cobra.Command {
	c := &cobra.Command{
		Use:     use,
		Short:   short,
		Long:    long,
		Example: example,
		Args:    arguments(least, most),
		RunE:    func(c *cobra.Command, args []string) error { return run(c.Context(), args) },
	}
	return c
}

// answersJSON says of a command that it knows --json.
func (s *session) answersJSON(c *cobra.Command) *cobra.Command {
	c.Annotations = map[string]string{"json": "yes"}
	return c
}

// family makes a command of several.
func family(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use + " COMMAND", Short: short, Long: long, Args: unknown, RunE: incomplete, Annotations: map[string]string{"family": "yes"}}
	c.DisableFlagsInUseLine = true
	c.AddCommand(commands...)
	return c
}

// usageError is for arguments that make no sense.
type usageError struct{ text string }

func (u *usageError) Error() string { return u.text }

func misused(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// arguments wants so many.
func arguments(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch n := len(args); {
		case n < least:
			return misused("%s missing", are(least-n, n > 0))
		case n > most && c.HasSubCommands():
			return unknown(c, args)
		case n > most:
			return misused("%q is one argument too many", args[most])
		}
		return nil
	}
}

func are(n int, more bool) string {
	text := fmt.Sprintf("%d arguments are", n)
	if n == 1 {
		text = "an argument is"
	}
	if more && n == 1 {
		text = "one more argument is"
	}
	return text
}

// unknown refuses what is no command, and names its neighbours.
func unknown(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	c.SuggestionsMinimumDistance = 2
	near := c.SuggestionsFor(args[0])
	if len(near) == 0 {
		return misused("there is no command %q", args[0])
	}
	slices.Sort(near)
	return misused("there is no command %q: is %s meant?", args[0], strings.Join(near, " or "))
}

// incomplete is for a command that needs another after it.
func incomplete(*cobra.Command, []string) error { return misused("a command is missing") }

// help is for srctl help COMMAND, which is srctl COMMAND --help.
func (s *session) help() *cobra.Command {
	c := &cobra.Command{
		Use:     "help [COMMAND]...",
		Short:   "tell about a command",
		Long:    "help tells about a command, as --help after that command does.",
		Example: "  srctl help delta apply",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err != nil || about == nil {
				return misused("there is no command %q", strings.Join(args, " "))
			}
			if len(rest) > 0 {
				return unknown(about, rest)
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, begun string) (names []string, _ cobra.ShellCompDirective) {
			about, _, err := c.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			for _, sub := range about.Commands() {
				if sub.IsAvailableCommand() && strings.HasPrefix(sub.Name(), begun) {
					names = append(names, sub.Name()+"\t"+sub.Short)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
	return c
}

func (s *session) version() *cobra.Command {
	return s.answersJSON(command("version", "tell which build this is", "version tells the version, and of which commit and with which compiler it was built, as far as\nthat is known.", "  srctl version", 0, 0,
		func(context.Context, []string) error {
			if s.json {
				return printJSON(s.out, map[string]string{"version": version.Version, "build": version.String()})
			}
			_, err := fmt.Fprintln(s.out, "srctl", version.String())
			return err
		}))
}

// oneDash are flags as they were spelt before, which scripts still have so.
var oneDash = regexp.MustCompile(`^-(json|fs|repair|overwrite|unused|textfile|within|format)(=.*)?$`)

// withLongFlags gives flags of one dash the second one.
func withLongFlags(args []string) []string {
	args = slices.Clone(args)
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if oneDash.MatchString(arg) {
			args[i] = "-" + arg
		}
	}
	return args
}
