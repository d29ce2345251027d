"""Names of people and places, and short forms, of our own choosing, for `written.py`."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST = _words("""
Aaron Abigail Agnes Aisha Alan Albert Alejandro Alexander Amanda Amelia Amir Andrea Angela
Anthony Antonio Arthur Ashley Audrey Barbara Beatrice Benjamin Bernard Brandon Brian Bridget
Caleb Camille Carlos Caroline Catherine Cecilia Chloe Christina Christopher Connor Craig Cynthia
Deborah Dennis Diego Dominic Dorothy Douglas Dylan Edith Edward Eleanor Elena Elijah Elizabeth
Ella Ethan Eva Evelyn Felix Fernando Florence Francis Gabriel Gavin Georgia Gerald Gloria Gordon
Harold Harriet Heather Hector Heidi Hugo Ibrahim Ingrid Irene Isaac Isabel Jacob Jasmine Jason
Jeffrey Jennifer Jeremy Jessica Jonathan Jordan Joseph Joshua Joyce Judith Justin Katherine
Kenneth Kyle Lawrence Leonard Liam Logan Louis Lucas Lydia Madison Malcolm Marcus Margaret
Marion Matthew Megan Melissa Miguel Miriam Mohammed Monica Morgan Nadia Naomi Natalie Nathan
Neil Nicole Noah Norman Omar Owen Pamela Patricia Patrick Pedro Penelope Phoebe Priya Rafael
Ralph Raymond Rebecca Richard Rosa Russell Ryan Samantha Samuel Scott Sean Sebastian Sharon
Sophia Stanley Stella Stephanie Stuart Sylvia Tamara Teresa Theodore Timothy Trevor Valerie
Vanessa Victor Victoria Vincent Violet Wendy William Xavier Yolanda Yusuf Zachary
""")
LAST = _words("""
Adams Ahmed Alvarez Anderson Armstrong Bailey Barnes Bennett Bishop Bradley Brooks Burton
Campbell Carpenter Carter Chambers Chapman Chen Clark Coleman Collins Cooper Crawford Cunningham
Davies Dawson Diaz Dixon Duncan Edwards Elliott Ellis Evans Ferguson Fernandez Fisher Fletcher
Foster Garcia Gardner Gibson Gonzalez Graham Grant Griffin Hamilton Harper Harrison Hawkins
Hayes Henderson Hernandez Holland Hopkins Howard Hudson Hughes Hunter Ivanov Jackson Jacobs
Jenkins Johnson Johnston Jones Kapoor Kelly Kennedy Khan Kim Klein Knight Kowalski Lambert Lee
Lewis Lopez Marshall Martinez Mason Matthews McCarthy McDonald Mitchell Morris Morrison Murphy
Murray Nakamura Nelson Newman Nguyen Nichols O'Brien O'Connor Oliver Owens Palmer Parker Patel
Patterson Pearson Perez Perry Peterson Phillips Pierce Porter Powell Price Quinn Ramirez Reed
Reynolds Richardson Rivera Roberts Robinson Rodriguez Rogers Russo Sanders Schmidt Shaw Silva
Simmons Simpson Singh Smith Spencer Stevens Stewart Sullivan Tanaka Taylor Thompson Torres
Tucker Turner Vasquez Wagner Walker Wallace Walsh Warren Watson Webb Weber Wells West Wheeler
Wilson Wood Wright Yamamoto Young Zimmerman
""")
PLACES = _words("""
Aberdeen Adelaide Alaska Albany Algeria Anchorage Antwerp Argentina Arizona Arkansas Auckland
Austria Baltimore Bangkok Barcelona Basel Bavaria Beirut Belfast Belgium Birmingham Bologna
Bordeaux Bristol Brisbane Bulgaria Calgary California Cambodia Cambridge Cardiff Chile
Cincinnati Cleveland Cologne Colombia Colorado Columbus Connecticut Copenhagen Cornwall Croatia
Cuba Dakar Delaware Denmark Detroit Dresden Durham Ecuador Estonia Ethiopia Florence Florida
Frankfurt Georgia Ghana Glasgow Granada Guatemala Hamburg Hanoi Havana Hawaii Helsinki Honolulu
Hungary Iceland Idaho Illinois Indiana Indonesia Iowa Iran Israel Istanbul Jakarta Jamaica
Jerusalem Johannesburg Jordan Kansas Kentucky Kyoto Lagos Latvia Lebanon Leeds Leicester Lima
Lithuania Liverpool Louisiana Luxembourg Lyon Madagascar Maine Malaysia Malta Manila Marseille
Maryland Massachusetts Memphis Michigan Milan Minneapolis Minnesota Mississippi Missouri
Mongolia Montana Morocco Moscow Mumbai Munich Nairobi Naples Nashville Nebraska Nepal Nevada
Newcastle Nigeria Nottingham Oklahoma Ontario Oregon Orlando Osaka Ottawa Oxford Pakistan
Palermo Panama Pennsylvania Perth Peru Pittsburgh Plymouth Quebec Queensland Richmond Romania
Rotterdam Sacramento Salzburg Santiago Sarajevo Saskatchewan Seoul Serbia Seville Shanghai
Sheffield Sicily Siberia Slovakia Slovenia Southampton Stuttgart Sudan Switzerland Tasmania
Tennessee Texas Thailand Tunisia Turin Uganda Ukraine Uruguay Utah Valencia Vancouver Venezuela
Venice Vermont Vietnam Virginia Wales Washington Wellington Wisconsin Wyoming Yorkshire Zambia
Zurich
""")
SHORT_FORMS = _words("""
A.M. AI ATM BBC CEO CIA CPU DIY DJ DNA DVD EU FAQ FBI FM GPS HD HR ID IBM IQ IT JPEG KGB LED MBA
NASA NATO NBA NHS OK PC PDF PhD PIN PM QR RAM SMS SUV TV UFO UK UN UNESCO URL USA USB VIP VPN
WWW XML
""")
TITLES = ("Mr.", "Mrs.", "Ms.", "Dr.", "Prof.", "Captain", "Judge", "Senator", "Aunt", "Uncle")
UNITS = ("km", "kg", "cm", "mm", "lb", "oz", "ml", "GB", "MB", "mph", "kW", "ft", "mi", "min", "%")
