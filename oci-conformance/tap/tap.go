// Package tap writes the Test Anything Protocol for the official validation suite, whose tests import it as
// github.com/mndrix/tap-go. That package is in no Debian release, so the few calls that the suite makes are here:
// with them the suite builds from Debian's packages alone.
package tap

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// T is one stream of test points. Todo shares the stream's counter, so it is behind a pointer.
type T struct {
	out   io.Writer
	count *int
	todo  bool
}

// New starts a stream on standard output.
func New() *T {
	return &T{out: os.Stdout, count: new(int)}
}

// Header announces the protocol and, when it is known already, the number of test points.
func (t *T) Header(points int) {
	fmt.Fprintln(t.out, "TAP version 13")
	if points > 0 {
		fmt.Fprintf(t.out, "1..%d\n", points)
	}
}

// Ok writes a test point.
func (t *T) Ok(passed bool, description string) {
	*t.count++
	verdict := "ok"
	if !passed {
		verdict = "not ok"
	}
	directive := ""
	if t.todo {
		directive = " # TODO"
	}
	// A line break would end the point, and a # would begin a directive.
	description = strings.NewReplacer("\n", " ", "#", "\\#").Replace(description)
	fmt.Fprintf(t.out, "%s %d - %s%s\n", verdict, *t.count, description, directive)
}

// Pass writes a test point that holds.
func (t *T) Pass(description string) { t.Ok(true, description) }

// Fail writes a test point that does not hold.
func (t *T) Fail(description string) { t.Ok(false, description) }

// Skip writes points that were not tried, with the reason.
func (t *T) Skip(points int, reason string) {
	for ; points > 0; points-- {
		*t.count++
		fmt.Fprintf(t.out, "ok %d # SKIP %s\n", *t.count, strings.ReplaceAll(reason, "\n", " "))
	}
}

// Todo is the same stream; its points are expected to fail.
func (t *T) Todo() *T {
	return &T{out: t.out, count: t.count, todo: true}
}

// AutoPlan writes how many points there were.
func (t *T) AutoPlan() {
	fmt.Fprintf(t.out, "1..%d\n", *t.count)
}

// Diagnostic writes a comment.
func (t *T) Diagnostic(message string) {
	for _, line := range strings.Split(message, "\n") {
		fmt.Fprintf(t.out, "# %s\n", line)
	}
}

// Diagnosticf writes a formatted comment.
func (t *T) Diagnosticf(format string, args ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, args...))
}

// YAML attaches details to the point before it. JSON is YAML, and its strings keep line breaks inside the block.
func (t *T) YAML(details interface{}) error {
	text, err := json.MarshalIndent(details, "  ", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(t.out, "  ---\n  %s\n  ...\n", text)
	return nil
}
