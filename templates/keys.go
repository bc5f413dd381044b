package templates

// keys is what the help dialog lists, and then touches.
var keys = []struct {
	Names []string
	Does  string
}{
	{[]string{"Space"}, "next phase, from words to gradient"},
	{[]string{"n", "p"}, "next or previous chain"},
	{[]string{"N", "P"}, "next or previous training step, which reads the chains"},
	{[]string{"←", "→"}, "next word or sentence"},
	{[]string{"Enter"}, "edit the sentence in focus; pin the word’s card"},
	{[]string{"Delete", "Backspace"}, "switch the ringed sentence off or on"},
	{[]string{"Ctrl+Z"}, "undo"},
	{[]string{"1", "…", "6"}, "reward formula"},
	{[]string{"Esc"}, "let go, close"},
	{[]string{"?"}, "this list"},
}

// touches are the ways without a keyboard that nothing on the page names.
var touches = []struct{ Way, Does string }{
	{"Tap a word", "what every chain did to it"},
	{"Tap a sentence", "switch it off or on"},
	{"Swipe the chain", "next or previous chain, on a phone"},
}
