"""Word lists of our own for the everyday sentences in ``everyday.py``."""


def _list(text: str) -> tuple[str, ...]:
    """Items between commas, newlines folded."""
    return tuple(item for part in text.split(",") if (item := " ".join(part.split())))


NAMES = _list("""Anna,Ben,Clara,David,Emma,Frank,Grace,Henry,Ivy,Jack,Kate,Leo,Maria,Nick,Olivia,
Paul,Rachel,Sam,Tom,Ruth,Will,Zoe,Alice,Bob,Charlie,Daniel,Helen,George,Hannah,Ian,James,Karen,
Laura,Michael,Nancy,Oscar,Peter,Robert,Sarah,Thomas,Emily,Mark,Lucy,Simon,Julia,Kevin,Susan,Martin,
Linda,John,Mary,Amy,Carl,Diana,Eric,Fiona,Gary,Joan,Keith,Lily,Max,Nora,Philip,Rose,Steve,Tina,
Walter,Molly,Jane,Adam,Betty,Chris,Donna,Fred,Mister Brown,Missus Green,Doctor Young,Miss Baker""")
CITIES = _list("""London,Paris,Berlin,Madrid,Rome,Boston,Chicago,Denver,Seattle,Dallas,Toronto,
Sydney,Tokyo,Dublin,Vienna,Prague,Oslo,Lisbon,Athens,Cairo,Delhi,Miami,Austin,Portland,Houston,
Atlanta,Montreal,Melbourne,Geneva,New York,San Francisco,Los Angeles,Hong Kong,Singapore,Warsaw,
Budapest,Mexico City,Philadelphia,Phoenix,Brussels,Amsterdam,Stockholm,Edinburgh,Manchester""")
COUNTRIES = _list("""France,Spain,Italy,Germany,Poland,Norway,Sweden,Japan,China,India,Brazil,
Canada,Mexico,Egypt,Kenya,Greece,Turkey,Ireland,England,Scotland,Australia,Portugal,Russia""")
DAYS = _list("Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday")
MONTHS = _list("""January,February,March,April,May,June,July,August,September,October,November,
December""")
UNITS = _list("one,two,three,four,five,six,seven,eight,nine")
TEENS = _list("""ten,eleven,twelve,thirteen,fourteen,fifteen,sixteen,seventeen,eighteen,
nineteen""")
TENS = _list("twenty,thirty,forty,fifty,sixty,seventy,eighty,ninety")
ORDINALS = _list("""first,second,third,fourth,fifth,sixth,seventh,eighth,ninth,tenth,eleventh,
twelfth,thirteenth,fourteenth,fifteenth,sixteenth,seventeenth,eighteenth,nineteenth,twentieth,
twenty-first,twenty-second,twenty-third,twenty-fourth,twenty-fifth,twenty-sixth,thirtieth,
thirty-first""")
ADJECTIVES = _list("""good,bad,big,small,old,new,young,happy,sad,warm,cold,hot,cool,dark,bright,
quiet,loud,fast,slow,early,late,easy,hard,cheap,expensive,clean,dirty,long,short,high,low,strong,
weak,beautiful,ugly,kind,nice,strange,funny,serious,simple,heavy,light,soft,sweet,bitter,fresh,dry,
wet,empty,full,rich,poor,safe,dangerous,tired,hungry,busy,free,ready,careful,angry,calm,clever,
stupid,brave,afraid,proud,lovely,wonderful,terrible,great,perfect,red,green,blue,yellow,white,black,
brown,gray,golden,silver,wooden,broken,modern,ancient,local,famous,popular,important,interesting,
boring,useful,difficult,special,different,common,rare,possible,private,public,deep,wide,narrow,
smooth,rough,round,square,tall,thin,thick,sharp,gentle,bold,humble,shiny,dusty,crowded,lonely,
curious,generous,polite,rude,nervous,elegant,fragile,faint,steep,shallow,hollow,muddy,frozen,
striped,purple,orange,pink,pale,tiny,huge,enormous,gigantic,average,spare,used,lazy,patient""")
NOUNS = _list("""house,car,dog,cat,bird,tree,river,mountain,road,street,city,town,village,school,
teacher,student,doctor,nurse,hospital,shop,market,kitchen,garden,window,door,table,chair,bed,book,
letter,paper,pen,phone,computer,song,movie,story,picture,camera,bag,box,bottle,cup,glass,plate,knife,
fork,spoon,sandwich,coffee,apple,orange,banana,lemon,potato,tomato,onion,soup,salad,chicken,egg,cake,
breakfast,lunch,dinner,restaurant,hotel,room,bathroom,train,bus,plane,ship,boat,bicycle,station,
airport,ticket,passport,suitcase,map,bridge,church,museum,park,beach,island,lake,forest,field,farm,
horse,cow,pig,mouse,lion,tiger,elephant,bear,snake,rabbit,flower,leaf,stone,storm,cloud,star,fire,
light,morning,evening,week,month,year,minute,hour,summer,winter,mother,father,sister,brother,
daughter,son,husband,wife,uncle,aunt,cousin,friend,neighbor,child,baby,man,woman,boy,girl,king,queen,
prince,soldier,farmer,driver,writer,artist,singer,lawyer,judge,engineer,manager,worker,question,
answer,problem,idea,reason,language,word,sentence,number,color,name,birthday,party,present,game,
ball,team,player,race,bank,price,job,office,meeting,company,government,law,war,country,family,dream,
memory,heart,hand,foot,eye,ear,nose,mouth,face,arm,leg,finger,shoulder,knee,voice,smile,clock,watch,
mirror,lamp,candle,key,lock,wall,floor,roof,corner,engine,wheel,machine,tool,hammer,shirt,dress,coat,
hat,shoe,sock,jacket,scarf,umbrella,ring,blanket,pillow,towel,brush,newspaper,magazine,radio,
message,address,password,program,screen,keyboard,button,battery,cable,bucket,basket,ladder,rope,
needle,thread,drawer,shelf,cupboard,oven,kettle,napkin,ocean,desert,valley,castle,tower,tunnel,
harbor,factory,library,theater,stadium,pharmacy,bakery,garage,balcony,chimney,violin,piano,drum,
trumpet,poem,novel,chapter,page,secret,promise,mistake,accident,journey,holiday,adventure,lesson,
exam,diploma,contract,invoice,receipt,budget,wolf,fox,deer,monkey,parrot,pigeon,butterfly,spider,
turtle,whale,shark,frog,cherry,peach,mushroom,carrot,pumpkin,biscuit,pancake,teapot,wagon,truck,
tractor,helicopter,rocket,planet,feather,shadow,rainbow,puddle,whistle,puzzle,balloon,statue""")
PLACES = _list("""in the garden,at the station,near the river,in the kitchen,on the table,
under the bridge,behind the house,in front of the church,next to the bank,
at the end of the street,in the city,at school,at home,at work,by the window,across the road,
on the third floor,in the park,at the airport,over the mountains,along the beach,
through the forest,inside the box,outside the office,around the corner,
between the two buildings,on the other side of the lake,at the top of the stairs,
in the back seat,beside the fireplace,at the bus stop,below the surface,on a quiet island,
in the waiting room,near the old mill,at the edge of town,in a dark corner,on the front porch,
against the wall,among the trees,down the hill,beyond the fence,at the dentist,upstairs,downstairs,
in the wrong drawer,at the supermarket,on the train,in the library,in the parking lot,abroad""")
TIMES = _list("""today,tomorrow,yesterday,this morning,this afternoon,tonight,next week,last year,
last night,every day,in the morning,on the weekend,after lunch,before dinner,at noon,at midnight,
right now,soon,later,an hour ago,two weeks ago,in a few minutes,in three days,once a month,
all day long,during the summer,since Monday,until Friday,as soon as possible,at the last minute,
from time to time,for the first time,years ago,most evenings,by the end of the month,
on New Year's Eve,at sunrise,after the storm,before breakfast,twice a week,once again,so far""")
PEOPLE = _list("""I,you,we,they,he,she,my brother,my sister,the teacher,our neighbor,the old man,
the young woman,her friend,his mother,the children,everyone,nobody,the doctor,my wife,your husband,
the driver,most people,somebody,the twins,her boss,his partner,our guests,the new student,
the tall stranger,a little girl,two policemen,the whole family,my best friend,the manager""")
WENT = _list("""walked,ran,went,came,looked around,stood,waited,worked,slept,sat,lived,played,
laughed,cried,talked,sang,danced,smiled,studied,stayed,arrived,stopped,returned,traveled,shouted,
whispered,fell asleep,got lost,felt ill,rested,argued,celebrated,camped,disappeared,hurried,
hesitated,listened,relaxed,searched,shivered,slipped,stumbled,wandered,kept quiet,fell in love""")
DID = _list("""bought,sold,found,lost,saw,took,brought,made,broke,fixed,opened,closed,cleaned,
painted,carried,forgot,remembered,wanted,needed,liked,loved,hated,used,kept,gave away,threw away,
picked up,put down,looked for,heard about,talked about,wrote about,dreamed of,asked for,paid for,
showed us,sent me,described,discovered,built,watched,borrowed,returned,designed,counted,measured,
chose,followed,touched,caught,drew,hid,held,moved,pushed,pulled,dropped,cut,burned,washed,shared,
ordered,finished,started,changed,checked,collected,covered,enjoyed,explained,noticed,offered,
prepared,protected,received,recognized,removed,repaired,replaced,saved,studied,tested,understood,
visited,admired,avoided,delivered,destroyed,examined,exchanged,feared,ignored,imagined,mentioned,
missed,packed,photographed,polished,promised,rented,rescued,sketched,smelled,stole,trusted,wrapped""")
TASKS = _list("""go home,buy some bread,call my mother,learn a new language,read this book,
take the train,see a doctor,open the window,turn off the light,find a good hotel,
make a reservation,drink a glass of water,eat something sweet,watch a movie,listen to music,
play the guitar,write a letter,send an email,wait for the bus,walk the dog,feed the cat,
clean the kitchen,wash the dishes,fix the car,pay the bill,change the password,visit the museum,
travel around the world,start a business,save some money,get some sleep,wake up early,
ask a question,answer the phone,cook dinner,bake a cake,plant a tree,ride a bicycle,
swim in the lake,climb the mountain,take a photograph,speak more slowly,close the door,
help a friend,finish this work,meet at the station,stay a little longer,leave before noon,
try again,think about it,wear a warm coat,rent an apartment,drive to the beach,go shopping,
go for a walk,have breakfast,order a pizza,check the weather,look at the map,print the tickets,
borrow an umbrella,charge the phone,practice the piano,sweep the floor,sharpen the pencils,
cancel the appointment,explain the rules,count the money,hang up the coat,water the flowers,
empty the dishwasher,choose a color,join the club,sign the form,mail a package,tell the truth,
keep a secret,catch a fish,cross the street,move to the country,paint the ceiling,sew a button,
share the taxi,peel the potatoes,taste the soup,set the table,light a candle,hide the presents""")
WEATHERS = _list("""sunny,cloudy,rainy,windy,snowy,foggy,stormy,hot,cold,warm,freezing,humid,mild,
cool and dry,wet and windy,bright and clear,gray and damp,icy,pleasant,unusually hot""")
FEELINGS = _list("""happy,tired,hungry,thirsty,sick,fine,great,sleepy,nervous,excited,worried,bored,
lonely,confused,surprised,sorry,grateful,sure,ready,afraid,in a hurry,all right,delighted,ashamed,
disappointed,embarrassed,exhausted,jealous,proud,relieved,upset,very well,out of breath""")
GREETINGS = _list("""Hello,Hi,Good morning,Good afternoon,Good evening,Hey there,Welcome,
Good night,Welcome back,Hello again,Hi there,Greetings,Good day,Hey""")
REPLIES = _list("""Thank you,Thank you very much,Thanks a lot,You are welcome,No problem,Of course,
Certainly,Not at all,Yes,No,Yes please,No thanks,Maybe,Perhaps,I think so,I hope so,I don't know,
I'm not sure,That's right,That's wrong,Excuse me,I beg your pardon,I'm sorry,Never mind,Don't worry,
Take care,See you later,See you soon,Goodbye,Have a nice day,Good luck,Congratulations,Well done,
Happy birthday,Merry Christmas,Happy New Year,Enjoy your meal,Sleep well,Get well soon,Be careful,
Hurry up,Come in,Sit down,Wait a minute,Just a moment,Listen,Look,Stop,Go ahead,Help,What a pity,
How lovely,I agree,I disagree,It depends,It doesn't matter,Let's go,Follow me,Come here,Go away,
What is your name,How are you,How old are you,Where are you from,What time is it,How much is it,
Where is it,Who is there,What happened,Why not,Are you ready,Do you understand,Can you hear me,
Is it far,I'm fine,I'm hungry,I'm here,I'm lost,I'm coming,It's late,It's raining,It's over,
I love you,I miss you,Nice to meet you,Pleased to meet you,Long time no see,So do I,Me too,
Not yet,Almost,Exactly,Really,Wonderful,Fantastic,Oh dear,Of course not,Absolutely,Right away,
At once,Any time,My pleasure,No idea,Good idea,Well,Okay,All right,Please,Sorry,After you""")
OPENERS = _list("""To be honest,In my opinion,As far as I know,By the way,For example,In fact,
Unfortunately,Luckily,After all,On the other hand,At first,In the end,Sooner or later,
Once upon a time,Believe it or not,Generally speaking,Without a doubt,As usual,To my surprise,
Strangely enough,According to the newspaper,In other words,
As a matter of fact,Years later,All of a sudden""")
JOINERS = _list("""and,but,so,because,although,while,until,before,after,when,and then,even though,
since,unless,as soon as,which is why""")

SAID = ("said", "asked", "whispered", "shouted", "answered", "replied", "repeated", "muttered")
BE = ("is", "was", "looks", "seems", "will be", "has never been", "isn't", "could be")
HOW = ("very", "quite", "too", "so", "really", "rather", "not", "a little", "extremely")
OWN = ("this", "that", "his", "her", "our", "their", "your", "my", "each", "every", "another")
OFTEN = ("often", "never", "always", "sometimes", "usually", "rarely", "hardly ever")
RIDES = ("train", "plane", "car", "bus", "ship", "bicycle", "taxi", "ferry")
SIDES = ("left", "right")
EVENTS = ("meeting", "movie", "game", "lesson", "party", "concert", "show")
THOUGHT = ("said", "thinks", "believes", "knew", "hoped", "was told", "heard")
MONEY = ("dollars", "pounds", "euros", "cents")
MEASURES = ("miles", "meters", "pounds", "hours", "minutes", "percent", "degrees", "pages", "cups")
