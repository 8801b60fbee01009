# Gradient descent in Perl, with the core modules alone.
use strict;
use warnings;
use JSON::PP;

$| = 1;
my ($rate, $momentum) = @ARGV;
my $saved = "$ENV{ORCH_CHECKPOINT_DIR}/state.json";
my $state = { step => 0, x => 3, y => -2, vx => 0, vy => 0 };
if (open(my $file, '<', $saved)) {
    $state = decode_json(<$file>);
}
while ($state->{step} < 8) {
    $state->{step}++;
    $state->{vx} = $momentum * $state->{vx} - $rate * 2 * $state->{x};
    $state->{vy} = $momentum * $state->{vy} - $rate * 8 * $state->{y};
    $state->{x} += $state->{vx};
    $state->{y} += $state->{vy};
    open(my $file, '>', "$saved.new") or die "$saved.new: $!";
    print $file encode_json($state);
    close($file);
    rename("$saved.new", $saved) or die "$saved: $!";
    my $loss = $state->{x}**2 + 4 * $state->{y}**2;
    print encode_json({ step => $state->{step}, loss => $loss }), "\n";
    select(undef, undef, undef, 0.05) while $state->{step} == 2 && -e ($ENV{USERS_HOLD} // '');
}
